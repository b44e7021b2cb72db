package admin

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"mirrorborn.us/sqgate/cluster"
	hosts "mirrorborn.us/sqgate/storage/host"
)

type someHosts []hosts.Peer

func (h someHosts) Peers() []hosts.Peer { return h }
func (h someHosts) TakenOver() int64    { return 3 }
func (h someHosts) HandedOver() int64   { return 2 }
func (h someHosts) Deposed() int64      { return 1 }

func TestFiguresOfHosts(t *testing.T) {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.RegisterHosts(someHosts{
		{Name: "a", Incarnation: "1", Alive: true}, {Name: "b", Incarnation: "2", Alive: true, Draining: true},
		{Name: "c", Incarnation: "3"}, {Name: "d", Incarnation: "4", Alive: true}, {Name: "stopped"},
	}, func() map[string]int64 { return map[string]int64{cluster.Answered: 7, cluster.Lost: 1} })
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	for _, line := range []string{
		"sq_take_overs_total 3", "sq_hand_overs_total 2", "sq_depositions_total 1",
		`sq_hosts{state="alive"} 2`, `sq_hosts{state="draining"} 1`, `sq_hosts{state="dead"} 1`,
		`sq_forwards_total{result="answered"} 7`, `sq_forwards_total{result="lost"} 1`, `sq_forwards_total{result="not_owner"} 0`, `sq_forwards_total{result="unreachable"} 0`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no %s in\n%s", line, w.Body)
		}
	}
}
