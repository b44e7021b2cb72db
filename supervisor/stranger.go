package supervisor

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"mirrorborn.us/sqgate/supervisor/procfs"
)

// refuseStranger fails if an SQ that no gateway started serves the directory,
// as on a host that ran SQ before and still does. Such a process holds no
// lock, and it is not ours to stop.
func refuseStranger(f *os.File) error {
	same, err := f.Stat()
	if err != nil {
		return err
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		dir := hostedBy(pid)
		if dir == "" || procfs.Environ(pid, envParent) != "" {
			continue
		}
		if got, err := os.Stat(dir); err == nil && os.SameFile(got, same) {
			return &heldError{holder: pid, text: fmt.Sprintf(
				"directory is served by an SQ that sqgate did not start (pid %d): stop it first", pid)}
		}
	}
	return nil
}

// hostedBy returns the data directory of a process that is `... host PORT ...
// --data-dir DIR`, as seen through its own root or working directory.
func hostedBy(pid int) string {
	args := procfs.Args(pid)
	option := slices.Index(args, "--data-dir")
	if !slices.Contains(args, "host") || option < 0 || option+1 == len(args) {
		return ""
	}
	dir := args[option+1]
	if filepath.IsAbs(dir) {
		return procfs.Path(pid, "root"+dir)
	}
	return procfs.Path(pid, "cwd/"+dir)
}
