package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// versions describes the machine and the programs of a run.
func (b *bench) versions() []string {
	all := []string{
		fmt.Sprintf("machine: %d cores, %s, %s of memory, Linux %s", runtime.NumCPU(), procField("/proc/cpuinfo", "model name"), procField("/proc/meminfo", "MemTotal"), firstLine("uname", "-r")),
		"Go: " + runtime.Version(),
		"data on: " + fileSystem(b.root),
	}
	for _, x := range b.binaries {
		all = append(all, x.name+": "+b.origin(x))
	}
	all = append(all, b.sqVersions()...)
	for _, o := range others {
		if path := programPath(o.program); path != "" {
			all = append(all, o.name+": "+firstLine(path, o.version...))
		}
	}
	return all
}

// origin says where a binary comes from.
func (b *bench) origin(x binary) string {
	if x.name == underTest && b.sqgate == "" {
		return commit()
	}
	return "a binary that was given, which says " + firstLine(x.path, "version")
}

// commit is the commit of the source tree, marked if the tree has been changed.
func commit() string {
	id := firstLine("git", "describe", "--always", "--dirty", "--abbrev=12")
	if id == "" {
		return "unknown commit"
	}
	return "commit " + id
}

// firstLine runs a program and returns the first line that it prints.
func firstLine(program string, args ...string) string {
	text, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
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

// fileSystems names file systems by their magic numbers, which statfs(2) returns.
var fileSystems = map[int64]string{0xef53: "ext4", 0x01021994: "tmpfs", 0x58465342: "XFS", 0x9123683e: "Btrfs", 0x794c7630: "overlayfs", 0x2fc12fc1: "ZFS"}

// fileSystem names the file system that dir is on.
func fileSystem(dir string) string {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return "an unknown file system"
	}
	if name, ok := fileSystems[int64(st.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", st.Type)
}

// timeWait returns how many sockets of this host are in TIME_WAIT.
func timeWait() string {
	fields := strings.Fields(procField("/proc/net/sockstat", "TCP"))
	for i := 0; i+1 < len(fields); i++ {
		if fields[i] == "tw" {
			return fields[i+1]
		}
	}
	return "an unknown number of"
}
