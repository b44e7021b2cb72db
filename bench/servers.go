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
	return b.startBuild(ctx, sqBuild{side: direct, program: b.sq}, dir)
}

// startBuild runs a build of SQ on a data directory.
func (b *bench) startBuild(ctx context.Context, sq sqBuild, dir string) (side, error) {
	addr, port, err := freeAddr()
	if err != nil {
		return side{}, err
	}
	p, err := b.start(ctx, addr, sq.program, "host", port, "--key", key(0), "--data-dir", dir)
	return side{name: sq.side, addr: addr, key: key(0), process: p}, err
}

// buildOn runs a build of SQ on a data directory of its own with the given phexts.
func (b *bench) buildOn(ctx context.Context, sq sqBuild, phexts map[string]string) (side, error) {
	start := func(ctx context.Context, dir string) (side, error) { return b.startBuild(ctx, sq, dir) }
	return b.sqOn(ctx, start, phexts)
}

// sqOn runs an SQ on a data directory of its own with the given phexts.
func (b *bench) sqOn(ctx context.Context, start func(context.Context, string) (side, error), phexts map[string]string) (side, error) {
	dir, err := os.MkdirTemp(b.root, "data-")
	if err != nil {
		return side{}, err
	}
	for name, text := range phexts {
		if err := putPhext(dir, name, text); err != nil {
			return side{}, err
		}
	}
	return start(ctx, dir)
}

// SQ's own modes for many tenants.
const configMode, routeMode = "SQ --config", "sq route"

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
	return side{name: configMode, addr: addr, key: key(0), process: p}, err
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
	return side{name: routeMode, addr: addr, key: key(0), process: p}, err
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

// gateway is a running sqgate. As a side, it is asked by tenant 0.
type gateway struct {
	side
	program string
	dir     string
	config  string // path of its tenants file
	core    string // the only one that it and SQ may use; empty = all
	env     []string
}

const adminKey = "bench-management-key"

// childPorts leaves the default range to gateways that are in service.
const childPorts = "17000-18999"

// newGateway prepares a gateway with n tenants, and starts nothing. detail says
// how its side differs from others of the same binary; it may be empty.
func (b *bench) newGateway(of binary, detail string, n int) (*gateway, error) {
	dir, err := os.MkdirTemp(b.root, "gateway-")
	if err != nil {
		return nil, err
	}
	g := &gateway{
		side:    side{name: sideOf(of.name, detail), binary: of.name, detail: detail, key: key(0), keepAlive: true},
		program: of.path, dir: dir, config: filepath.Join(dir, "tenants.json"),
	}
	return g, g.writeConfig(n, 1000)
}

// sideOf names the side that a binary is.
func sideOf(binary, detail string) string {
	if detail == "" {
		return binary
	}
	return binary + ", " + detail
}

// writeConfig writes the tenants file. sqgate reads it again only on request,
// so that this can be timed.
func (g *gateway) writeConfig(n, quotaMB int) error {
	all := make([]any, n)
	for i := range all {
		all[i] = map[string]any{"id": "t" + strconv.Itoa(i), "api_key": key(i), "data_dir": g.dataDir(i), "quota_mb": quotaMB}
	}
	text, err := json.MarshalIndent(map[string]any{"tenants": all, "reload_on_change": false}, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(g.config, text, 0o600)
}

func (g *gateway) dataDir(i int) string { return filepath.Join(g.dir, "data", strconv.Itoa(i)) }

// as is the same gateway, asked by another tenant.
func (g *gateway) as(i int) side {
	s := g.side
	s.key = key(i)
	return s
}

// startGateway starts a gateway that was prepared, with further flags.
func (b *bench) startGateway(ctx context.Context, g *gateway, flags ...string) (err error) {
	if g.addr, _, err = freeAddr(); err != nil {
		return err
	}
	args := append([]string{"serve", "--config", g.config, "--listen", g.addr, "--sq", b.sq, "--admin-key", adminKey,
		"--state-dir", filepath.Join(g.dir, "state"), "--data-root", filepath.Join(g.dir, "data"),
		"--archive-dir", filepath.Join(g.dir, "archive"), "--child-ports", childPorts, "--idle-timeout", "0"}, flags...)
	program := g.program
	if g.core != "" {
		program, args = "taskset", append([]string{"-c", g.core, program}, args...)
	}
	if len(g.env) > 0 {
		program, args = "env", append(append([]string{}, g.env...), append([]string{program}, args...)...)
	}
	g.process, err = b.start(ctx, g.addr, program, args...)
	return err
}

// gatewayOn starts a gateway of which tenant 0 has one phext.
func (b *bench) gatewayOn(ctx context.Context, of binary, detail, phext, text string, flags ...string) (*gateway, error) {
	g, err := b.newGateway(of, detail, 1)
	if err != nil {
		return nil, err
	}
	if err := putPhext(g.dataDir(0), phext, text); err != nil {
		return nil, err
	}
	return g, b.startGateway(ctx, g, flags...)
}

// startAll adds a gateway of each binary to sides, as far as it takes part. All
// of them have the same phext. The sides are also those to stop after an error.
func (b *bench) startAll(ctx context.Context, sides []side, of []binary, detail, phext, text string, flags ...string) ([]side, error) {
	for _, x := range of {
		if !b.wants(sideOf(x.name, detail)) {
			continue
		}
		g, err := b.gatewayOn(ctx, x, detail, phext, text, flags...)
		if err != nil {
			return sides, err
		}
		sides = append(sides, g.side)
	}
	return sides, nil
}

func (g *gateway) pid() int { return g.process.cmd.Process.Pid }
