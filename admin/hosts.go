package admin

import (
	"context"
	"errors"
	"net/http"

	"mirrorborn.us/sqgate/cluster"
	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/storage/datadir"
	hosts "mirrorborn.us/sqgate/storage/host"
)

// hostView is a host of the bucket as the operator sees it.
type hostView struct {
	Name        string  `json:"name"`
	URL         string  `json:"url"`
	Version     string  `json:"version"`
	Alive       bool    `json:"alive"`
	Stopped     bool    `json:"stopped"` // in order
	Draining    bool    `json:"draining"`
	Directories int     `json:"directories"` // that it holds
	SeenSeconds float64 `json:"seen_seconds"`
}

// HostList is the hosts that share the bucket.
type HostList struct {
	Host  string     `json:"host"` // that answers
	Hosts []hostView `json:"hosts"`
}

// hostsNow is nil if this host is alone.
func (a *API) hostsNow() *HostList {
	if a.Hosts == nil {
		return nil
	}
	list := &HostList{Host: a.Directories.Name, Hosts: []hostView{}}
	for _, p := range a.Directories.Peers() {
		list.Hosts = append(list.Hosts, hostView{p.Name, p.URL, p.Version, p.Alive, p.Incarnation == "", p.Draining, p.Directories, p.SeenAgo.Seconds()})
	}
	return list
}

// still is the list without what changes all the time.
func (l *HostList) still() *HostList {
	for i := range l.Hosts {
		l.Hosts[i].SeenSeconds = 0
	}
	return l
}

var errAlone = apierror.New(apierror.Conflict, "this sqgate has no other hosts: start it with --bucket and --host-listen")

func (a *API) listHosts(w http.ResponseWriter, _ *http.Request) error {
	list := a.hostsNow()
	if list == nil {
		list = &HostList{Hosts: []hostView{}}
	}
	apierror.WriteJSON(w, http.StatusOK, list)
	return nil
}

// drain has a host hand over what it has, and take nothing over, or ends that. It answers
// when that is done.
func (a *API) drain(begin bool) handler {
	return a.atHost(func(w http.ResponseWriter, r *http.Request) error {
		what, do := "drain", a.Directories.Drain
		if !begin {
			what, do = "undrain", a.Directories.Undrain
		}
		a.Draining(begin)
		if err := do(context.WithoutCancel(r.Context())); err != nil {
			return apierror.New(apierror.Unavailable, "not everything was handed over: %v", err)
		}
		a.record(r, "host-"+what, "", nil, map[string]any{"host": a.Directories.Name})
		apierror.WriteJSON(w, http.StatusOK, map[string]any{"host": a.Directories.Name, "draining": begin})
		return nil
	})
}

// moveTenant has another host serve a tenant's directory.
func (a *API) moveTenant(w http.ResponseWriter, r *http.Request) error {
	var in struct {
		Host *string `json:"host"`
	}
	if err := decode(r, &in); err != nil {
		return err
	}
	t, err := a.tenant(r)
	switch {
	case err != nil:
		return err
	case a.Hosts == nil:
		return errAlone
	case in.Host == nil:
		return badRequest(`field "host" is missing: name the host that is to have it`)
	}
	to, err := a.liveHost(*in.Host)
	if err != nil {
		return err
	}
	if to.Name != a.Directories.Name {
		if err := a.Directories.HandOver(r.Context(), t.DataDir, to.Name); errors.Is(err, hosts.ErrNoSuchHost) || errors.Is(err, hosts.ErrOwnedElsewhere) {
			return apierror.New(apierror.Conflict, "%v", err)
		} else if err != nil {
			return err
		}
		a.record(r, "move", t.ID, map[string]any{"host": a.Directories.Name}, map[string]any{"host": to.Name})
	}
	apierror.WriteJSON(w, http.StatusOK, map[string]any{"tenant_id": t.ID, "host": to.Name})
	return nil
}

func (a *API) liveHost(name string) (hosts.Peer, error) {
	for _, p := range a.Directories.Peers() {
		if p.Name == name && p.Alive {
			return p, nil
		}
	}
	return hosts.Peer{}, apierror.New(apierror.NotFound, "no host %.80q lives: GET /api/v2/admin/hosts lists them", name)
}

type fromHostKey struct{}

// FromHosts answers the calls that another host has admitted with its own management key,
// and sent here.
func (a *API) FromHosts() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), fromHostKey{}, true)))
	})
}

func fromHost(r *http.Request) bool { return r.Context().Value(fromHostKey{}) != nil }

// atHost has the host that the path names answer a call.
func (a *API) atHost(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		switch name := r.PathValue("name"); {
		case a.Hosts == nil:
			return errAlone
		case name == a.Directories.Name:
			return h(w, r)
		case fromHost(r):
			cluster.RefuseNotOwner(w)
			return nil
		default:
			to, err := a.liveHost(name)
			if err != nil {
				return err
			}
			return a.Hosts.SendTo(w, r, w.Header().Get("X-Request-Id"), to)
		}
	}
}

// atOwner has the host that owns the directory of the path's tenant answer a call.
func (a *API) atOwner(h handler) handler {
	if a.Hosts == nil {
		return h
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		t, err := a.tenant(r)
		if err != nil {
			return h(w, r) // which says that there is none
		}
		if fromHost(r) {
			accepted, err := a.Hosts.Accepts(r.Context(), t.DataDir)
			if err == nil && accepted {
				err = h(w, r)
			}
			if err == nil && !accepted || errors.Is(err, datadir.ErrMoved) {
				cluster.RefuseNotOwner(w)
				return nil
			}
			return err
		}
		var failed error
		err = a.Hosts.Serve(w, r, cluster.Call{
			Dir: t.DataDir, ID: w.Header().Get("X-Request-Id"), Repeatable: r.Method == http.MethodGet,
			Here: func() (moved bool, read []byte) {
				failed = h(w, r)
				return false, nil
			},
		})
		return errors.Join(err, failed)
	}
}
