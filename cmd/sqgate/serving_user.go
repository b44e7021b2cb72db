package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/squnit"
)

// servingUser is whom sqgate serves a tenants file as.
type servingUser struct {
	uid      int
	group    string   // of the unit; "" = the user's own
	groups   []string // further ones of the unit
	unit     string   // that serves the file; "" = none, and the user is a guess
	writable []string // where the unit may write; nil = everywhere
	hidden   []string // what it does not see
	bound    []string // what it sees in there even so
	noSQ     string   // where it looks for SQ in vain; "" = it finds one
}

// installed is the unit of sqgate that systemd has, and where it is, or "" if there is
// none, or if the old unit hides it.
func (h *host) installed() (path string, unit squnit.Service, err error) {
	for _, dir := range append([]string{h.etc}, h.packaged...) {
		path = filepath.Join(dir, unitName)
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if !strings.Contains(string(text), "sqgate") {
			break
		}
		var dropIns []string
		if dir != h.etc {
			dropIns = append(dropIns, filepath.Join(h.etc, unitName+".d"))
		}
		if unit, err = squnit.ReadService(path, dropIns...); err != nil {
			return "", unit, fmt.Errorf("%s: %w", path, err)
		}
		return path, unit, nil
	}
	return "", unit, nil
}

// takeSettings gives flags the values that the unit gives those of serve, in its command
// line or its environment. What is given here, in either of them, wins.
func (h *host) takeSettings(f *pflag.FlagSet) error {
	path, unit, err := h.installed()
	if err != nil || path == "" {
		return err
	}
	served := newServe().Flags()
	if err := served.Parse(unit.Arguments); err != nil {
		return fmt.Errorf("%s: ExecStart=: %w", path, err)
	}
	f.VisitAll(func(flag *pflag.Flag) {
		variable := variableOf(flag)
		value, set := unit.Environment[variable]
		if of := served.Lookup(flag.Name); of != nil && of.Changed {
			value, set = of.Value.String(), true
		}
		if set && flag.Name == "config" {
			h.serves = value
		}
		if here, also := os.LookupEnv(variable); also && here != unit.Environment[variable] {
			return
		}
		if set && !flag.Changed && err == nil {
			err = f.Set(flag.Name, value)
		}
	})
	return err
}

// servingUser is the user of the unit, if sqgate's unit is installed and the tenants
// file is its own. Without a unit, it is whoever asks, or the owner of the file if root
// asks.
func (h *host) servingUser(config string) (servingUser, error) {
	who := servingUser{uid: os.Geteuid()}
	path, unit, err := h.installed()
	if err != nil || path == "" || config != h.serves {
		return who.guess(config), err
	}
	who.unit, who.writable, who.group, who.groups = unitName, unit.Writable, unit.Group, unit.Groups
	who.hidden, who.bound = unit.Hidden, unit.Bound
	if place, found := h.findSQ(unit); !found {
		who.noSQ = place
	}
	if who.uid = 0; unit.User != "" {
		if who.uid, err = uidOf(unit.User); err != nil {
			return who, fmt.Errorf("%s: User=%s: %w", path, unit.User, err)
		}
	}
	for _, group := range append([]string{who.group}, who.groups...) {
		if _, err := gidOf(group); group != "" && err != nil {
			return who, fmt.Errorf("%s: Group=%s: %w", path, group, err)
		}
	}
	return who, nil
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

func gidOf(name string) (int, error) {
	if g, err := user.LookupGroup(name); err == nil {
		name = g.Gid
	} else if _, e := strconv.Atoi(name); e != nil {
		return 0, err
	}
	return strconv.Atoi(name)
}

// can says whether the user may read a file or write to a directory, as the kernel has
// it: mode, group and access control lists. Only root can ask that of another user.
func (w servingUser) can(test, path string) bool {
	cmd := exec.Command("/usr/bin/test", test, path)
	w.runs(cmd)
	return cmd.Run() == nil
}

// runs has a command run as the user.
func (w servingUser) runs(cmd *exec.Cmd) {
	if os.Geteuid() != w.uid || os.Geteuid() == 0 && w.group != "" {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.credential()}
	}
}

// credential has the groups that systemd would give the user: with Group=, that is in
// the place of the user's own.
func (w servingUser) credential() *syscall.Credential {
	c := &syscall.Credential{Uid: uint32(w.uid), Gid: uint32(w.uid)}
	groups, own := w.groups, ""
	if u, err := user.LookupId(strconv.Itoa(w.uid)); err == nil {
		own = u.Gid
		ids, _ := u.GroupIds() // without them, it has its own group
		groups = append(slices.DeleteFunc(ids, func(id string) bool { return id == own }), groups...)
	}
	for _, name := range append(groups, cmp.Or(w.group, own)) {
		if gid, err := gidOf(name); err == nil {
			c.Groups, c.Gid = append(c.Groups, uint32(gid)), uint32(gid)
		}
	}
	return c
}

// chownTo is the user with the group that its files have, for chown.
func (w servingUser) chownTo() string {
	if w.group != "" {
		return userName(w.uid) + ":" + w.group
	}
	return fsutil.Owner(w.uid)
}
