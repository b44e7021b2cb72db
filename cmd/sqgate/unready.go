package main

import (
	"errors"
	"net"
	"net/http"
	"time"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/proxy"
)

// startError is what kept serve from starting.
type startError struct{ error }

func (e startError) Unwrap() error { return e.error }

// keepsFromStarting says whether an error ended sqgate before it served anybody.
func keepsFromStarting(err error) bool {
	var start startError
	var usage usageError
	return errors.As(err, &start) || errors.As(err, &usage)
}

// unreadyTime is how long a sqgate that cannot start stays before it ends, and systemd
// starts the next one. So systemd tries now and then, with settings as they are by
// then, and neither it nor the log is busy with that.
const unreadyTime = 5 * time.Second

var errUnready = apierror.RetryIn(unreadyTime, apierror.Unavailable,
	"the service cannot start: the operator has to look at `systemctl status sq` and its log, which say why")

// answerUnready tells systemd why sqgate cannot start, and those who have connected
// that it has not. A signal ends it at once.
func answerUnready(cause error, send func(state string) error, stay time.Duration) {
	_ = send("STATUS=CANNOT START, tried again every few seconds: " + oneLine(cause.Error())) // the log has it too
	server := &http.Server{ReadHeaderTimeout: stay, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		apierror.WriteEarly(w, proxy.NewRequestID(), errUnready)
	})}
	for _, l := range systemdSockets() {
		go func() { _ = server.Serve(l) }() // the process ends with it
	}
	time.Sleep(stay)
	_ = server.Close() // what has not been answered by now is told so by its connection
}

// systemdSockets is the tenants' socket, unless it was used up already.
func systemdSockets() []net.Listener {
	if l, err := passedOn(envListener); l != nil && err == nil {
		return []net.Listener{l}
	}
	passed, _, err := systemdListeners()
	if err != nil || len(passed) != 1 || passed[0] == nil {
		return nil
	}
	return passed
}
