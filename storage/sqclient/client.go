// Package sqclient sends requests to SQ. SQ answers one request on a connection
// and closes it without saying so (LEGACY.md), so there is no pool and nothing
// to reuse: each exchange is a connection of its own. A request is never
// repeated once SQ may have seen it, since insert appends.
//
// It decides nothing about what is sent, and knows no files.
package sqclient

import (
	"context"
	"errors"
	"net/http"

	"mirrorborn.us/sqgate/internal/memlimit"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/supervisor"
)

// Lease is the right to use a running child; it is a *supervisor.Lease in service.
type Lease interface {
	Addr() string // IP address and port
	Key() string
	Generation() uint64
	Release()
	Retire(reason string)
}

// Client leases children and talks to them.
type Client struct {
	lease   func(ctx context.Context, dir string) (Lease, error)
	reserve func(dir string) *memlimit.Reservation
}

// New makes a client of the children that lease lends. What SQ answers is held in the
// memory of the directory that reserve has.
func New(lease func(ctx context.Context, dir string) (Lease, error), reserve func(dir string) *memlimit.Reservation) *Client {
	return &Client{lease: lease, reserve: reserve}
}

// FromSupervisor lends a supervisor's children.
func FromSupervisor(s *supervisor.Supervisor) func(ctx context.Context, dir string) (Lease, error) {
	return func(ctx context.Context, dir string) (Lease, error) {
		l, err := s.Lease(ctx, dir)
		if err != nil {
			return nil, err // not l: a nil *Lease in the interface would not be nil
		}
		return l, nil
	}
}

// Child is a child for as long as it is leased. It must be ended.
type Child struct {
	client *Client
	lease  Lease
	dir    string
}

// Lease waits until the child of a directory is ready. Errors are the supervisor's.
func (c *Client) Lease(ctx context.Context, dir string) (*Child, error) {
	lease, err := c.lease(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &Child{c, lease, dir}, nil
}

// Generation differs from one start of a child to the next.
func (c *Child) Generation() uint64 { return c.lease.Generation() }

// End gives the child back. err is how the use of it ended: unless that says
// that the child is well, it is stopped and the next lease starts another.
// Only the first End counts.
func (c *Child) End(err error) {
	switch {
	case err == nil, errors.Is(err, errNoMemory), isRefusal(err):
		c.lease.Release()
	case errors.Is(err, ErrUnreached):
		c.lease.Retire("it accepts no connections")
	default:
		c.lease.Retire("an exchange with it failed")
	}
}

// Load has SQ read the phext of call from its file again.
func (c *Child) Load(ctx context.Context, call *rewrite.Call) error {
	held := c.client.Hold(c.dir)
	defer held.Release()
	_, err := c.Do(ctx, call.LoadCall().Outgoing(), held)
	return err
}

// Hold reserves memory for answers about a directory: none at first, and more with each answer.
func (c *Client) Hold(dir string) *memlimit.Reservation { return c.reserve(dir) }

// isRefusal says whether SQ is well and merely did not want the request. A 401
// is none: that was not our child, or not our key.
func isRefusal(err error) bool {
	var status StatusError
	return errors.As(err, &status) && status >= 400 && status < 500 && status != http.StatusUnauthorized
}
