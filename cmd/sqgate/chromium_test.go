package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// chromium is a headless browser with one page. It is spoken to in the DevTools
// protocol over a pipe: messages in JSON with a NUL behind each. A library for that
// would compile for a minute, and we use six commands.
type chromium struct {
	t       *testing.T
	in      *os.File
	session string
	mu      sync.Mutex
	last    int
	answers map[int]chan devtoolsMessage
	events  []devtoolsMessage
}

type devtoolsMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func startChromium(t *testing.T, path string) *chromium {
	t.Helper()
	home := t.TempDir()
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--user-data-dir="+home, "--remote-debugging-pipe", "about:blank")
	cmd.Env = append(os.Environ(), "HOME="+home)
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4, as the browser expects
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = fromUs.Close(), toUs.Close() // the browser has them
	c := &chromium{t: t, in: in, answers: map[int]chan devtoolsMessage{}}
	read := make(chan struct{})
	go func() { defer close(read); c.read(out) }()
	t.Cleanup(func() {
		_ = in.Close() // the browser ends with its pipe
		_ = cmd.Wait()
		_ = out.Close()
		<-read
	})
	var target struct{ TargetID string }
	c.send("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	c.send("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	c.session = session.SessionID
	for _, domain := range []string{"Page", "Runtime", "Network", "Log", "Audits"} {
		c.send(domain+".enable", nil, nil)
	}
	return c
}

func (c *chromium) read(out *os.File) {
	in := bufio.NewReader(out)
	for {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtoolsMessage
		if json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m) != nil {
			continue
		}
		c.mu.Lock()
		answer := c.answers[m.ID]
		if m.ID == 0 {
			c.events = append(c.events, m)
		}
		c.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
}

// try sends a command and decodes its result.
func (c *chromium) try(method string, params, result any) error {
	c.mu.Lock()
	c.last++
	id, answer := c.last, make(chan devtoolsMessage, 1)
	c.answers[id] = answer
	c.mu.Unlock()
	command := map[string]any{"id": id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if c.session != "" {
		command["sessionId"] = c.session
	}
	text, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := c.in.Write(append(text, 0)); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), waitTimeout)
	defer cancel()
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

func (c *chromium) send(method string, params, result any) {
	c.t.Helper()
	if err := c.try(method, params, result); err != nil {
		c.t.Fatal(err)
	}
}

// eval is the value of an expression in the page; it waits for a promise.
func (c *chromium) eval(expression string) (string, error) {
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	err := c.try("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true, "userGesture": true}, &r)
	if err == nil && r.ExceptionDetails != nil {
		err = errors.New(r.ExceptionDetails.Exception.Description)
	}
	return fmt.Sprint(r.Result.Value), err
}

func (c *chromium) must(expression string) string {
	c.t.Helper()
	value, err := c.eval(expression)
	if err != nil {
		c.t.Fatalf("%.200s: %v", expression, err)
	}
	return value
}

// await waits until an expression is true in the page.
func (c *chromium) await(expression string) {
	c.t.Helper()
	eventually(c.t, expression, func() bool {
		value, err := c.eval(expression)
		return err == nil && value == "true"
	})
}

// seen are the events of a kind so far.
func (c *chromium) seen(method string) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events {
		if e.Method == method {
			all = append(all, string(e.Params))
		}
	}
	return all
}

// view sets the size of the window and whether the page is dark.
func (c *chromium) view(width, height int, scheme string) {
	c.t.Helper()
	c.send("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	c.send("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// picture saves what the window shows.
func (c *chromium) picture(path string) {
	c.t.Helper()
	var shot struct{ Data string }
	c.send("Page.captureScreenshot", map[string]any{"format": "png", "optimizeForSpeed": false}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// js is a string as JavaScript has it.
func js(text string) string {
	quoted, _ := json.Marshal(text) // a string always can be
	return strings.ReplaceAll(string(quoted), "\u2028", `\u2028`)
}
