package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"mirrorborn.us/sqgate/internal/squnit"
)

// servingUser is whom sqgate serves a tenants file as.
type servingUser struct {
	uid      int
	unit     string   // that serves the file; "" = none, and the user is a guess
	writable []string // where the unit may write; nil = everywhere
}

// servingUser is the user of the unit, if sqgate's unit is installed and the tenants
// file is its own. Without a unit, it is whoever asks, or the owner of the file if root
// asks.
func (h *host) servingUser(config string) (servingUser, error) {
	who := servingUser{uid: os.Geteuid()}
	if config != h.serves {
		return who.guess(config), nil
	}
	var dropIns []string
	for _, dir := range append([]string{h.etc}, h.packaged...) {
		path := filepath.Join(dir, unitName)
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if !strings.Contains(string(text), "sqgate") {
			break // the old unit, which hides that of the package
		}
		if dir != h.etc {
			dropIns = append(dropIns, filepath.Join(h.etc, unitName+".d"))
		}
		unit, err := squnit.ReadService(path, dropIns...)
		if err != nil {
			return who, err
		}
		who.unit, who.writable = unitName, unit.Writable
		if who.uid = 0; unit.User != "" {
			if who.uid, err = uidOf(unit.User); err != nil {
				return who, fmt.Errorf("%s: User=%s: %w", path, unit.User, err)
			}
		}
		return who, nil
	}
	return who.guess(config), nil
}

func (w servingUser) guess(config string) servingUser {
	if info, err := os.Stat(config); err == nil && w.uid == 0 {
		w.uid = ownerOf(config, info)
	}
	return w
}

func uidOf(name string) (int, error) {
	if u, err := user.Lookup(name); err == nil {
		name = u.Uid
	} else if _, e := strconv.Atoi(name); e != nil {
		return 0, err
	}
	return strconv.Atoi(name)
}

// can says whether the user may read a file or write to a directory, as the kernel has
// it: mode, group and access control lists. Only root can ask that of another user.
func (w servingUser) can(test, path string) bool {
	cmd := exec.Command("/usr/bin/test", test, path)
	if os.Geteuid() != w.uid {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credentialOf(w.uid)}
	}
	return cmd.Run() == nil
}

func credentialOf(uid int) *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return c
	}
	groups, _ := u.GroupIds() // without them, it has its own group
	for _, text := range append(groups, u.Gid) {
		if gid, err := strconv.ParseUint(text, 10, 32); err == nil {
			c.Groups, c.Gid = append(c.Groups, uint32(gid)), uint32(gid)
		}
	}
	return c
}

// chownTo is a user with its group, for chown.
func chownTo(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid)
	}
	group, err := user.LookupGroupId(u.Gid)
	if err != nil {
		return u.Username
	}
	return u.Username + ":" + group.Name
}
