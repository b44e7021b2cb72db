package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"mirrorborn.us/sqgate/storage/bucket"
	"mirrorborn.us/sqgate/webhooks"
)

// From a network of its own, sqgate reaches nothing outside. A dialer is another process in
// the host's network: it connects to the bucket's server, to other hosts and to the
// receivers of webhooks, as far as its own flags allow that, and to nothing else, and passes
// the connected socket on. It is asked over a Unix socket, which is a file and belongs to
// no network: a line with the address, and the answer is the socket, or why there is none.
// It sees nothing of what is sent.

const (
	// dialerCommand is the hidden command. Its standard input ends when it is not needed
	// any more, unless systemd has started it.
	dialerCommand = "dialer"
	// envDialer is the variable with the path of the dialer's socket. The unit has it.
	envDialer = "SQ_DIALER"
	// envDialerPipe is the number of the descriptor that keeps a dialer of sqgate's own alive.
	envDialerPipe = "SQ_DIALER_PIPE_FD"

	dialTimeout = 10 * time.Second
	longestLine = 300 // bytes

	// How the line of a receiver of webhooks begins, with TLS and without.
	webhookWord      = "webhook "
	plainWebhookWord = "plain-webhook "
)

// dialThrough connects by way of the dialer at path; nil if path is "".
func dialThrough(path string) func(ctx context.Context, network, address string) (net.Conn, error) {
	if path == "" {
		return nil
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		return askDialer(ctx, path, address)
	}
}

// askDialer asks the dialer at path with a line.
func askDialer(ctx context.Context, path, line string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	dialer, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("the dialer that connects sqgate's own network to others does not run: %w", err)
	}
	defer func() { _ = dialer.Close() }() // it has said everything
	defer context.AfterFunc(ctx, func() { _ = dialer.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(dialer, line+"\n"); err != nil {
		return nil, err
	}
	return receiveSocket(dialer.(*net.UnixConn))
}

func receiveSocket(from *net.UnixConn) (net.Conn, error) {
	said, rights := make([]byte, 1<<10), make([]byte, unix.CmsgSpace(4))
	n, nRights, _, _, err := from.ReadMsgUnix(said, rights)
	if err != nil {
		return nil, err
	}
	if nRights == 0 {
		return nil, errors.New(string(said[:n]))
	}
	messages, err := unix.ParseSocketControlMessage(rights[:nRights])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("the dialer's answer: %d messages, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("the dialer's answer: %d sockets, %w", len(fds), err)
	}
	unix.CloseOnExec(fds[0])
	file := os.NewFile(uintptr(fds[0]), "bucket")
	defer func() { _ = file.Close() }() // the connection has a copy
	return net.FileConn(file)
}

// dialer is what a dialer connects to, and for whom.
type dialer struct {
	reaches  func(address string) bool
	webhooks webhooks.Allowed
	only     int // the pid of the process that may ask; 0 = any that can open the socket
}

// serve answers until l is closed.
func (d *dialer) serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }() // whoever asked has the answer
			if err := d.answer(c.(*net.UnixConn)); err != nil {
				_, _ = io.WriteString(c, oneLine(err.Error())) // whoever asked may have left
			}
		}()
	}
}

// connect does what a line asks for.
func (d *dialer) connect(line string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	if address, ok := strings.CutPrefix(line, webhookWord); ok {
		return d.webhooks.Dial(ctx, address, true)
	}
	if address, ok := strings.CutPrefix(line, plainWebhookWord); ok {
		return d.webhooks.Dial(ctx, address, false)
	}
	if !d.reaches(line) {
		return nil, fmt.Errorf("the dialer connects to the server of its --bucket and to the port of its --host-listen, and not to %q", line)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", line)
}

func (d *dialer) answer(c *net.UnixConn) error {
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return err
	}
	line := make([]byte, longestLine)
	n, err := c.Read(line)
	if err != nil {
		return err
	}
	if pid, err := peerOf(c); d.only != 0 && (err != nil || pid != d.only) {
		return fmt.Errorf("the dialer connects for its sqgate, and not for process %d (%v)", pid, err)
	}
	conn, err := d.connect(strings.TrimSuffix(string(line[:n]), "\n"))
	if err != nil {
		return err
	}
	file, err := conn.(*net.TCPConn).File()
	if err := errors.Join(err, conn.Close()); err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // its copy is on its way
	_, _, err = c.WriteMsgUnix([]byte{0}, unix.UnixRights(int(file.Fd())), nil)
	return err
}

// peerOf is the pid of the process that has opened a connection.
func peerOf(c *net.UnixConn) (pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var who *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { who, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(who.Pid), nil
}

func newDialer() *cobra.Command {
	var o bucketOptions
	var socket string
	d := &dialer{reaches: o.reaches} // webhooks are to be allowed here, too: a dialer for a bucket is for nothing more
	cmd := &cobra.Command{
		Use: dialerCommand, Short: "Connect a sqgate in a network of its own to others", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fromEnvironment(cmd.Flags()); err != nil {
				return err
			}
			return d.run(socket)
		},
	}
	cmd.Flags().StringVar(&o.url, "bucket", "", "URL of the bucket whose server may be connected to")
	o.registerHosts(cmd.Flags())
	cmd.Flags().Var(&d.webhooks, "webhook-allow", "where webhooks may be sent")
	cmd.Flags().StringVar(&socket, "socket", "", "path of the socket to listen on (empty: systemd's)")
	return cmd
}

func (d *dialer) run(socket string) error {
	if socket == "" {
		passed, err := activation.Listeners()
		if err != nil || len(passed) != 1 || passed[0] == nil {
			return usageError{fmt.Errorf("systemd handed over %d sockets, and one is wanted: use sqgate-dialer.socket (%v)", len(passed), err)}
		}
		d.serve(passed[0])
		return nil
	}
	l, err := listenUnix(socket)
	if err != nil {
		return err
	}
	d.only = os.Getppid() // not an SQ process, which is of the same user
	fmt.Println("ready")
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with sqgate
		_ = l.Close()
	}()
	d.serve(l)
	return nil
}

// reaches says whether a dialer connects to an address: the bucket's server, or a host at
// the port that all have.
func (o *bucketOptions) reaches(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return bucket.Reaches(o.url, address) || err == nil && port != "" && port == o.hostPort()
}

// listenUnix listens on a path that an earlier process may have left there.
func listenUnix(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// startDialer starts a dialer in the network that this process is still in, and notes it
// in the environment for the program that is about to be executed. It ends with that one.
// stop ends it if nothing is executed.
func (s *service) startDialer() (stop func(), err error) {
	if !s.mustDial() && s.webhooks.Off() {
		return func() {}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(s.o.stateDir, ".dialer")
	cmd := exec.Command(self, dialerCommand, "--bucket", s.o.bucket.url, "--host-listen", s.dialedHosts(), "--webhook-allow", s.o.webhookAllow.String(), "--socket", socket)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C is sqgate's, which goes on for a while
	said, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	read, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin = read
	err = errors.Join(cmd.Start(), read.Close())
	end := func() { _ = alive.Close(); _ = cmd.Wait() } // it has nothing to lose
	if err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	if _, err := said.Read(make([]byte, 10)); err != nil {
		end()
		return nil, fmt.Errorf("the dialer did not start: %w", err)
	}
	_, err = unix.FcntlInt(alive.Fd(), unix.F_SETFD, 0) // it outlives the execution
	err = errors.Join(err, os.Setenv(envDialer, socket), os.Setenv(envDialerPipe, strconv.Itoa(int(alive.Fd()))))
	return func() { _, _ = os.Unsetenv(envDialer), os.Unsetenv(envDialerPipe); end() }, err // neither fails
}

// mustDial says whether sqgate cannot serve without connections to others.
func (s *service) mustDial() bool { return strings.HasPrefix(s.o.bucket.url, "s3:") || s.hosts != nil }

// dialedHosts is an address with the port of all hosts, as a dialer has it; "" = there are none.
func (s *service) dialedHosts() string {
	if s.hosts == nil {
		return ""
	}
	port := s.o.bucket.hostPort()
	if s.o.bucket.hostURL == "" {
		_, port, _ = net.SplitHostPort(s.hostListener.Addr().String()) // it may have been chosen
	}
	return net.JoinHostPort("localhost", port)
}

// keepDialer keeps the dialer that startDialer has started from outliving this process
// with a child of its.
func keepDialer() {
	if fd, err := strconv.Atoi(os.Getenv(envDialerPipe)); err == nil {
		unix.CloseOnExec(fd)
	}
}
