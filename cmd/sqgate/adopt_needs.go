package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/squnit"
)

// What sqgate's unit needs and the unit before may have had in its user's home: SQ, and
// a directory for the data.

// provideSQ are the steps after which sqgate's unit finds an SQ. from is the one that the
// host has run until now, or "".
func (h *host) provideSQ(config, from string) []string {
	if !h.servedByUnit(config) {
		return nil // whoever starts sqgate by hand is told
	}
	place, found := h.findSQ(h.packagedUnit())
	if info, err := os.Stat(place); found && err == nil && info.Mode()&0o001 == 0 {
		return []string{fmt.Sprintf("chmod a+rx %s     # only its owner can run it", shellQuote(place))}
	}
	if found {
		return nil
	}
	if !isProgram(from) {
		from, _ = h.lookPath("sq") // "" if there is none
	}
	if !isProgram(from) {
		return []string{"cargo install sq --root /usr/local     # sqgate finds no SQ; \"Install\" in operations.md has more"}
	}
	return []string{fmt.Sprintf("install -m 755 %s %s     # sqgate's unit cannot run it where it is", shellQuote(fsutil.Resolve(from)), shellQuote(place))}
}

// servedByUnit tells whether sqgate's unit serves a tenants file.
func (h *host) servedByUnit(config string) bool { return config == h.serves && h.hasPackagedUnit() }

// findSQ is the SQ that sqgate runs in a unit or, if it finds none, where it would find it.
// The unit sees no programs in homes, not even those that a link leads to.
func (h *host) findSQ(unit squnit.Service) (program string, found bool) {
	set := unit.Environment[settingPrefix+"SQ"]
	if f := newServe().Flags(); f.Parse(unit.Arguments) == nil && f.Changed("sq") {
		set = f.Lookup("sq").Value.String()
	}
	if set == builtin {
		return set, true
	}
	places := []string{set}
	if !filepath.IsAbs(set) {
		places = places[:0]
		for _, dir := range h.path {
			places = append(places, filepath.Join(dir, "sq"))
		}
	}
	if len(places) == 0 {
		return "", true // nothing is known
	}
	for _, place := range places {
		if isProgram(place) && !underHome(fsutil.Resolve(place)) {
			return place, true
		}
	}
	return places[0], false
}

// packagedUnit is sqgate's own unit with its drop-ins, and empty if there is none.
func (h *host) packagedUnit() squnit.Service {
	for _, dir := range h.packaged {
		if unit, err := squnit.ReadService(filepath.Join(dir, unitName), filepath.Join(h.etc, unitName+".d")); err == nil {
			return unit
		}
	}
	return squnit.Service{}
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// sayVersions says so if sqgate runs another SQ than the unit before.
func (h *host) sayVersions(out io.Writer, old *squnit.Unit) {
	program, found := h.findSQ(h.packagedUnit())
	if !found || program == builtin || !isProgram(old.Program) || fsutil.Resolve(program) == fsutil.Resolve(old.Program) {
		return
	}
	before, now := h.version(old.Program, userOf(old)), h.version(program, userOf(old))
	if before == "" || now == "" || before == now {
		return
	}
	fmt.Fprintf(out, "sqgate runs %s, which is SQ %s. %s is SQ %s; to go on with that one, first: install -m 755 %s %s\n",
		program, now, old.Program, before, shellQuote(fsutil.Resolve(old.Program)), shellQuote(program))
}

// versionAs is the version of an SQ, run as a user, since the program may be that
// user's; and "" if it cannot be found out.
func versionAs(program, user string) string {
	uid, err := uidOf(user)
	if err != nil {
		return ""
	}
	dir, err := os.MkdirTemp("", "sqgate")
	if err != nil {
		return ""
	}
	defer func() { _ = os.RemoveAll(dir) }() // an empty directory in /tmp
	if os.Geteuid() != uid {
		if err := os.Chown(dir, uid, -1); err != nil {
			return ""
		}
	}
	version, err := sqVersionAs([]string{program}, dir, servingUser{uid: uid})
	if err != nil {
		return ""
	}
	return version
}

// closedAbove are the directories above dir that a user cannot enter.
func closedAbove(dir string, enters func(dir string) bool) (closed []string) {
	parts := strings.Split(strings.Trim(filepath.Dir(fsutil.Resolve(dir)), "/"), "/")
	for n := range parts {
		above := "/" + strings.Join(parts[:n+1], "/")
		info, err := os.Stat(above)
		if err != nil {
			break
		}
		// Below a closed one, the kernel does not say.
		if len(closed) == 0 && !enters(above) || len(closed) > 0 && info.Mode()&0o001 == 0 {
			closed = append(closed, above)
		}
	}
	return closed
}

// letEnter are the steps after which a user can enter the directories above others. Those
// in homes the unit shows to everybody, see writeSettings.
func (h *host) letEnter(user string, dirs ...string) []string {
	if !h.hasPackagedUnit() {
		return nil
	}
	var closed []string
	for _, dir := range dirs {
		if underHome(fsutil.Resolve(dir)) {
			continue
		}
		closed = append(closed, closedAbove(dir, func(dir string) bool { return h.enters(user, dir) })...)
	}
	if slices.Sort(closed); len(closed) == 0 {
		return nil
	}
	quoted := ""
	for _, dir := range slices.Compact(closed) {
		quoted += " " + shellQuote(dir)
	}
	return []string{fmt.Sprintf("chmod o+x%s     # %s, as whom sqgate runs, cannot get through to the data", quoted, user)}
}

// entersAs says whether a user may enter a directory, and yes if that cannot be found out.
func entersAs(user, dir string) bool {
	uid, err := uidOf(user)
	return err != nil || os.Geteuid() != 0 || servingUser{uid: uid}.can("-x", dir)
}

// commonDirs are directories that hold what is not SQ's.
var commonDirs = []string{"/", "/bin", "/boot", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/usr", "/usr/local", "/var", "/var/lib", "/var/tmp"}

// ownPlace is a directory that SQ may have for its own.
const ownPlace = "/var/lib/phext"

// checkOwnDir refuses a directory that is not SQ's alone, if its files would have to
// become those of sqgate's user.
func (h *host) checkOwnDir(dir, user, stop string, then []string) error {
	resolved := fsutil.Resolve(dir)
	if !h.hasPackagedUnit() || user == defaultUser || !slices.Contains(commonDirs, resolved) && filepath.Dir(resolved) != "/home" {
		return nil
	}
	steps := append([]string{stop, fmt.Sprintf("install -d -o %s -m 700 %s && find %s -maxdepth 1 -name '*.phext' -exec mv -t %[2]s {} +", user, ownPlace, shellQuote(resolved))}, then...)
	text := fmt.Sprintf("%s holds more than SQ's phexts, and sqgate would need all of it (chown -R): give SQ a directory of its own first, such as %s. Nothing was changed. In this order:", dir, ownPlace)
	for i, step := range steps {
		text += fmt.Sprintf("\n  %d. %s", i+1, step)
	}
	return usageError{fmt.Errorf("%s", text)}
}
