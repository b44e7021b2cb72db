package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// other is a proxy that may be installed. Each is configured as its manual says
// for a backend that closes every connection. It chooses the backend by the
// Authorization header and keeps connections to clients alive.
type other struct {
	name    string
	program string
	version []string // arguments with which it prints its version
	args    func(config string) []string
	config  string // with placeholders: LISTEN, PORT, BACKEND, KEY, DIR and CORES
}

var others = []other{
	{"nginx", "nginx", []string{"-v"}, func(c string) []string { return []string{"-c", c, "-e", filepath.Dir(c) + "/error.log"} }, `
daemon off;
user root;
worker_processes auto;
worker_rlimit_nofile 20000;
pid DIR/nginx.pid;
error_log DIR/error.log;
events { worker_connections 8192; }
http {
  access_log DIR/access.log;
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  map $http_authorization $backend { default ""; "Bearer KEY" BACKEND; }
  server {
    listen LISTEN;
    if ($backend = "") { return 401; }
    location / {
      proxy_pass http://$backend;
      proxy_http_version 1.1;
      proxy_set_header Connection close;
    }
  }
}
`},
	{"HAProxy", "haproxy", []string{"-v"}, func(c string) []string { return []string{"-db", "-f", c} }, `
global
  maxconn 8000
  nbthread CORES
defaults
  mode http
  option http-server-close
  timeout connect 5s
  timeout client 60s
  timeout server 300s
frontend front
  bind LISTEN
  acl bench req.hdr(authorization) -m str "Bearer KEY"
  http-request deny deny_status 401 unless bench
  use_backend sq if bench
backend sq
  server sq BACKEND
`},
	{"Caddy", "caddy", []string{"version"}, func(c string) []string { return []string{"run", "--adapter", "caddyfile", "--config", c} }, `
{
  admin off
  auto_https off
}
http://:PORT {
  bind 127.0.0.1
  @bench header Authorization "Bearer KEY"
  handle @bench {
    reverse_proxy BACKEND {
      transport http {
        keepalive off
        compression off
      }
    }
  }
  respond 401
}
`},
}

// startOthers runs every proxy that is installed and takes part, in front of an SQ.
func (b *bench) startOthers(ctx context.Context, backend side) (running []side) {
	for _, o := range others {
		if !b.wants(o.name) {
			continue
		}
		path := programPath(o.program)
		if path == "" {
			b.noteOnce("%s is not installed, and was left out", o.name)
			continue
		}
		s, err := b.startOther(ctx, o, path, backend)
		if err != nil {
			b.noteOnce("%s was left out: %v", o.name, err)
			continue
		}
		running = append(running, s)
	}
	return running
}

// programPath finds a program, also in directories that only root has in its PATH.
func programPath(program string) string {
	for _, name := range []string{program, "/usr/sbin/" + program, "/usr/local/sbin/" + program} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func (b *bench) startOther(ctx context.Context, o other, path string, backend side) (side, error) {
	addr, port, err := freeAddr()
	if err != nil {
		return side{}, err
	}
	dir, err := os.MkdirTemp(b.root, o.program+"-")
	if err != nil {
		return side{}, err
	}
	fill := strings.NewReplacer("LISTEN", addr, "PORT", port, "BACKEND", backend.addr, "KEY", backend.key, "DIR", dir, "CORES", strconv.Itoa(runtime.NumCPU()))
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(fill.Replace(o.config)), 0o600); err != nil {
		return side{}, err
	}
	p, err := b.start(ctx, addr, path, o.args(file)...)
	return side{name: o.name, addr: addr, key: backend.key, keepAlive: true, process: p}, err
}

func cutAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		return "", 0, fmt.Errorf("port of %s: %w", addr, err)
	}
	return host, port, nil
}
