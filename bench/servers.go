package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// key is the API key of tenant i, on every side.
func key(i int) string { return fmt.Sprintf("pmb-v1-%032x", i+1) }

// startSQ runs SQ on a data directory.
func (b *bench) startSQ(ctx context.Context, dir string) (side, error) {
	return b.startBuild(ctx, build{side: direct, program: b.sq}, dir)
}

// startSQConfig runs SQ's own mode for many tenants.
func (b *bench) startSQConfig(ctx context.Context, dir string) (side, error) {
	file, err := b.jsonFile(map[string]any{"tenants": map[string]any{key(0): map[string]any{"name": "bench", "data_dir": dir}}})
	if err != nil {
		return side{}, err
	}
	addr, port, err := freeAddr()
	if err != nil {
		return side{}, err
	}
	p, err := b.start(ctx, addr, b.sq, "host", port, "--config", file)
	return side{name: "SQ --config", addr: addr, key: key(0), process: p}, err
}

// startSQRoute runs SQ's own router in front of an SQ.
func (b *bench) startSQRoute(ctx context.Context, backend side) (side, error) {
	_, port, _ := cutAddr(backend.addr)
	file, err := b.jsonFile(map[string]any{"tenants": []any{map[string]any{"token": key(0), "port": port, "data_dir": "/nonexistent"}}})
	if err != nil {
		return side{}, err
	}
	addr, listen, err := freeAddr()
	if err != nil {
		return side{}, err
	}
	p, err := b.start(ctx, addr, b.sq, "route", file, listen)
	return side{name: "sq route", addr: addr, key: key(0), process: p}, err
}

func (b *bench) jsonFile(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(b.root, "config-*.json")
	if err != nil {
		return "", err
	}
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	return f.Name(), f.Close()
}

// gate is a running sqgate; its side asks as tenant 0.
type gate struct {
	side
	dir     string
	config  string
	tenants int
}

const adminKey = "bench-management-key"

// childPorts leaves the default range to gateways that are in service.
const childPorts = "17000-18999"

// newGate prepares a gateway with n tenants, and starts nothing.
func (b *bench) newGate(name string, n int) (*gate, error) {
	dir, err := os.MkdirTemp(b.root, "gate-")
	if err != nil {
		return nil, err
	}
	g := &gate{side: side{name: name, key: key(0), keepAlive: true}, dir: dir, config: filepath.Join(dir, "tenants.json"), tenants: n}
	return g, g.writeConfig(n, 1000)
}

// writeConfig writes the tenants file. The file is read again only on request,
// so that this can be timed.
func (g *gate) writeConfig(n, quota int) error {
	all := make([]any, n)
	for i := range all {
		all[i] = map[string]any{"id": "t" + strconv.Itoa(i), "api_key": key(i), "data_dir": g.dataDir(i), "quota_mb": quota}
	}
	text, err := json.MarshalIndent(map[string]any{"tenants": all, "reload_on_change": false}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(g.config, text, 0o600)
}

func (g *gate) dataDir(i int) string { return filepath.Join(g.dir, "data", strconv.Itoa(i)) }

// as is the same gateway, asked by another tenant.
func (g *gate) as(i int) side {
	s := g.side
	s.key = key(i)
	return s
}

// startGate starts a gateway that was prepared, with further flags.
func (b *bench) startGate(ctx context.Context, g *gate, flags ...string) (err error) {
	if g.addr, _, err = freeAddr(); err != nil {
		return err
	}
	args := append([]string{"serve", "--config", g.config, "--listen", g.addr, "--sq", b.sq, "--admin-key", adminKey,
		"--state-dir", filepath.Join(g.dir, "state"), "--data-root", filepath.Join(g.dir, "data"),
		"--archive-dir", filepath.Join(g.dir, "archive"), "--child-ports", childPorts, "--idle-timeout", "0"}, flags...)
	g.process, err = b.start(ctx, g.addr, b.gate, args...)
	return err
}

// gateOn starts a gateway whose tenant 0 has one phext.
func (b *bench) gateOn(ctx context.Context, name, phext, text string, flags ...string) (*gate, error) {
	g, err := b.newGate(name, 1)
	if err != nil {
		return nil, err
	}
	if err := putPhext(g.dataDir(0), phext, text); err != nil {
		return nil, err
	}
	return g, b.startGate(ctx, g, flags...)
}

func (g *gate) pid() int { return g.process.cmd.Process.Pid }
