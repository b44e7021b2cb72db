package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// versions says on what and with what a run was made.
func (b *bench) versions() []string {
	all := []string{
		fmt.Sprintf("machine: %d cores, %s, %s of memory, Linux %s", runtime.NumCPU(), procField("/proc/cpuinfo", "model name"), procField("/proc/meminfo", "MemTotal"), firstLine("uname", "-r")),
		"sqgate: " + commit(),
		"Go: " + runtime.Version(),
		"SQ: " + b.sqVersion(),
	}
	for _, o := range others {
		if path := programPath(o.program); path != "" {
			all = append(all, o.name+": "+firstLine(path, o.version...))
		}
	}
	return all
}

// commit is that of the source tree, marked if it has been changed.
func commit() string {
	id := firstLine("git", "describe", "--always", "--dirty", "--abbrev=12")
	if id == "" {
		return "unknown commit"
	}
	return "commit " + id
}

// firstLine runs a program and takes the first line of what it prints.
func firstLine(program string, args ...string) string {
	text, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// sqVersion asks SQ in the temporary directory, since it makes a .sq folder wherever it is.
func (b *bench) sqVersion() string {
	cmd := exec.Command(b.sq, "version")
	cmd.Dir = b.root
	text, err := cmd.Output()
	if err != nil {
		return "unknown version"
	}
	return strings.TrimSpace(string(text))
}

func procField(path, name string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if field, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(field) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
