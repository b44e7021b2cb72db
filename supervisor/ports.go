package supervisor

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

var errNoPort = errors.New("no free port in the range of children")

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports gives each child a port of its own.
type ports struct {
	low, high int
	workDir   string

	mu   sync.Mutex
	held map[int]bool
}

// take returns a free port, looking from a random one on so that two gateways
// seldom want the same.
func (p *ports) take() (int, error) {
	size := p.high - p.low + 1
	first := rand.IntN(size)
	for i := range size {
		port := p.low + (first+i)%size
		if p.reserve(port) {
			return port, nil
		}
	}
	return 0, errNoPort
}

func (p *ports) reserve(port int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[port] || !p.usable(port) {
		return false
	}
	p.held[port] = true
	return true
}

// usable asks the system. SQ listens on all addresses; and it takes a file
// named like the port in its working directory for a phext and does not host.
func (p *ports) usable(port int) bool {
	if _, err := os.Lstat(filepath.Join(p.workDir, strconv.Itoa(port))); err == nil {
		return false
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

func (p *ports) release(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, port)
}
