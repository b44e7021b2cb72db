package rewrite

import (
	"errors"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/phext"
)

func number(n uint32) Place {
	at := phext.Origin()
	at[8] = n
	return Place{At: at}
}

// queried is a GET of query with these parameters, name and value in turn.
func queried(body string, params ...string) (*Call, error) {
	var query []string
	for i := 0; i < len(params); i += 2 {
		query = append(query, params[i]+"="+url.QueryEscape(params[i+1]))
	}
	return understand("GET", "/api/v2/query?"+strings.Join(query, "&"), body, will)
}

func TestQueries(t *testing.T) {
	first, second := "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.2"
	sent := func(p Place, s string) Place { p.Sent = s; return p }
	whole := QuerySpec{Ranged: true, From: sent(number(1), first), To: sent(number(2), second), Limit: math.MaxUint64}
	limited := func(n uint64) QuerySpec { q := whole; q.Limit = n; return q }
	set := func(all ...Place) QuerySpec { return QuerySpec{Set: all, Limit: math.MaxUint64} }
	dates := QuerySpec{Ranged: true, Limit: math.MaxUint64,
		From: Place{phext.Coordinate{2025, 0, 1, 1, 1, 1, 1, 1, 1}, "2025.0.1/1.1.1/1.1.1", "2025.00.1/1.1.1/1.1.1"},
		To:   Place{phext.Coordinate{2026, 1, 1, 1, 1, 1, 1, 1, 1}, "2026.1.1/1.1.1/1.1.1", "2026.1.1/1.1.1/1.1.1"}}
	for _, test := range []struct {
		body   string
		params []string
		want   QuerySpec
	}{
		{"", []string{"from", " " + first + "\t", "to", second}, whole},
		{"", []string{"from", first, "to", second, "limit", "+2"}, limited(2)},
		{"", []string{"from", first, "to", second, "limit", " 0 "}, limited(0)},
		{"", []string{"from", first, "to", second, "limit", ""}, whole},
		{"", []string{"set", first + ",, " + second + " ;\r\n" + first}, set(number(1), number(2), number(1))},
		{second, []string{"from", "", "to", ""}, set(number(2))},
		{second, []string{"set", first}, set(number(1))},
		{"ignored", []string{"set", "", "from", first, "to", second}, whole},
		{"", []string{"content", first, "s", "ignored", "data", "ignored", "c", "1"}, set(number(1))},
		{second, []string{"content", first}, set(number(2))},
		{"", []string{"set", "+01.001.1/1.1.1/1.1.2"}, set(number(2))},
		{"", []string{"set", "will." + second}, set(sent(number(2), "will."+second))},
		{"", []string{"set", "a.name,user.1/x"}, set(Place{Name: "a.name", Sent: "a.name"}, Place{Name: "user.1/x", Sent: "user.1/x"})},
		{"", []string{"set", "1.1.1/1.1.1/1.1.01000"}, set(Place{number(1000).At, "1.1.1/1.1.1/1.1.1000", "1.1.1/1.1.1/1.1.01000"})},
		{"", []string{"from", "2025.00.1/1.1.1/1.1.1", "to", "2026.1.1/1.1.1/1.1.1"}, dates},
	} {
		call, err := queried(test.body, test.params...)
		if err != nil || !reflect.DeepEqual(*call.Query, test.want) || !call.NeedsNames() {
			t.Errorf("%q %q: %v\n%+v, want\n%+v", test.params, test.body, err, call, test.want)
		}
	}
}

// TestRefusedQueries has those of the recordings, and some of sqgate's own.
func TestRefusedQueries(t *testing.T) {
	const first, second = "1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.2"
	long := strings.Repeat("1", 2000)
	for _, test := range []struct {
		body   string
		params []string
		want   string // without "Bad Request: "
	}{
		{"", nil, "query needs a range (from + to) or a set of coordinates"},
		{" ,\n", []string{"limit", "x"}, "query needs a range (from + to) or a set of coordinates"},
		{"", []string{"from", first}, "a range needs both 'from' and 'to'"},
		{"", []string{"from", second, "to", first}, "'from' (" + second + ") is after 'to' (" + first + ")"},
		{"", []string{"from", "x", "to", "y"}, "invalid 'from' coordinate: x"},
		{"", []string{"from", first, "to", "1.1/1.1.1/1.1.1", "set", "x"}, "invalid 'to' coordinate: 1.1/1.1.1/1.1.1"},
		{"", []string{"set", "1.1.1;1.1.1;1.1.1"}, "invalid coordinate in set: 1.1.1"},
		{"", []string{"set", first + ",1.1.1.1.1.1.1.1.1"}, "invalid coordinate in set: 1.1.1.1.1.1.1.1.1"},
		{"", []string{"set", "1.1.1/1.1.1/1.1.-1"}, "invalid coordinate in set: 1.1.1/1.1.1/1.1.-1"},
		{"", []string{"set", "1.1.1.1/1.1.1/1.1.1"}, "invalid coordinate in set: 1.1.1.1/1.1.1/1.1.1"},
		{"", []string{"set", "1.1.1/1.1.1/18446744073709551616.1.1"}, "invalid coordinate in set: 1.1.1/1.1.1/18446744073709551616.1.1"},
		{"garbage", []string{"from", first, "to", second}, "invalid coordinate in set: garbage"},
		{"1.1.1%2F1.1.1%2F1.1.1", nil, "invalid coordinate in set: 1.1.1%2F1.1.1%2F1.1.1"},
		{`["` + first + `"]`, nil, `invalid coordinate in set: ["` + first + `"]`},
		{"\ufeff" + first, nil, "invalid coordinate in set: \ufeff" + first},
		{"a..name", nil, "invalid coordinate in set: a..name"},
		{"", []string{"set", first, "limit", "-1"}, "invalid limit: -1"},
		{"", []string{"set", first, "limit", "18446744073709551616"}, "invalid limit: 18446744073709551616"},
		{long, nil, "invalid coordinate in set: " + long[:longestRepeat] + "..."},
	} {
		_, err := queried(test.body, test.params...)
		var e *apierror.Error
		if !errors.As(err, &e) || e.Status != 400 || !e.Text || e.Message != "Bad Request: "+test.want {
			t.Errorf("%q %q: %v, want %s", test.params, test.body, err, test.want)
		}
	}
	for _, test := range []struct {
		body string
		code string
	}{
		{"bob." + first, "forbidden"}, {first + ",\xff", "not_utf8"}, {strings.Repeat(first+",", maxSet+1), "too_large"},
	} {
		_, err := queried(test.body)
		var e *apierror.Error
		if !errors.As(err, &e) || e.Code != test.code || e.Text {
			t.Errorf("%.40q: %v, want %s", test.body, err, test.code)
		}
	}
}
