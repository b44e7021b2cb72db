package writer

import (
	"errors"
	"os"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/tenants/quota"
)

// The names of a phext's coordinates are a phext beside it, which this gateway
// writes itself. A name is written before its scroll and removed after it. A
// crash between the two leaves a name without a scroll, which reads as if it
// were not there. The next scroll at its coordinate removes it first, so a name
// never has another's scroll.

// resolveName finds the coordinate of a call by name, and whether a name comes
// or goes with it. done says that there is nothing to change.
func (tx *transaction) resolveName() (answered bool, err error) {
	m := tx.lead
	if tx.isBatch() { // each of its operations may have one
		return false, nil
	}
	if m.Call.Name != "" {
		at, known := tx.before.Names.Find(m.Call.Name, tx.pace)
		switch {
		case known:
			m.Call.Resolve(at)
		case empties(m.Call) || len(m.Call.Scroll) == 0:
			m.result.Body = []byte(answerTo(m.Call, ""))
			return true, m.checkPrecondition("", false)
		default:
			if at, err = nextFree(tx.before); err != nil {
				return false, err
			}
			m.Call.Resolve(at)
			tx.newName = true
		}
	}
	tx.lostName = tx.takesName(m.Call)
	tx.staleName = tx.hasStaleName(m.Call)
	return false, nil
}

// hasStaleName says whether the call's coordinate has a name without a scroll, as
// a crash between the two leaves it. A scroll that is written there by its number
// must not come under that name.
func (tx *transaction) hasStaleName(call *rewrite.Call) bool {
	_, named := tx.before.Names.Phext.Select(call.At)
	_, exists := tx.before.Phext.Phext.Select(call.At)
	return call.Name == "" && named && !exists && !empties(call)
}

// takesName says whether a name goes with the scroll of a call.
func (tx *transaction) takesName(call *rewrite.Call) bool {
	_, named := tx.before.Names.Phext.Select(call.At)
	return named && empties(call)
}

// empties says whether nothing is left at the coordinate after the call.
func empties(call *rewrite.Call) bool {
	return call.Op == rewrite.Delete || len(call.Scroll) == 0 && call.Op == rewrite.Update
}

// nextFree is the coordinate behind all that have a name, and behind all
// scrolls in the part of the phext where named ones lie.
func nextFree(v datadir.View) (phext.Coordinate, error) {
	at := rewrite.FirstNamed()
	for _, file := range []*cache.Version{v.Names, v.Phext} {
		last, ok := file.Phext.Last()
		if !ok || last.At.Compare(at) < 0 {
			continue
		}
		next, ok := last.At.Next()
		if !ok {
			return at, errNoRoomForNames
		}
		at = next
	}
	return at, nil
}

// nameGrowth is by how many bytes the names grow.
func (tx *transaction) nameGrowth() int64 {
	if tx.namesNext != nil {
		return max(0, tx.namesNext.Size()-tx.before.Names.Size())
	}
	if !tx.newName {
		return 0
	}
	names, call := tx.before.Names, tx.lead.Call
	return names.With(call.At, call.Name).Size() - names.Size()
}

// writeNewName gives the call's name its coordinate, and removes a stale one.
func (tx *transaction) writeNewName() error {
	call := tx.lead.Call
	switch {
	case tx.namesNext != nil:
		return tx.writeNames(tx.namesNext, tx.newNames...)
	case tx.newName:
		name := strings.Clone(call.Name) // it may be a part of a long URL, and stays in memory
		return tx.writeNames(tx.before.Names.With(call.At, name), phext.Scroll{At: call.At, Text: name})
	case tx.staleName:
		return tx.writeNames(tx.before.Names.With(call.At, ""), phext.Scroll{At: call.At})
	}
	return nil
}

// removeLostName removes the names of scrolls that are gone.
func (tx *transaction) removeLostName() {
	gone := tx.lostNames
	if tx.lostName {
		gone = []phext.Scroll{{At: tx.lead.Call.At}}
	}
	tx.removeNames(gone)
}

// removeNewName removes the names that were to be new.
func (tx *transaction) removeNewName() {
	var gone []phext.Scroll
	if tx.newName {
		gone = []phext.Scroll{{At: tx.lead.Call.At}}
	}
	for _, name := range tx.newNames {
		if name.Text != "" {
			gone = append(gone, phext.Scroll{At: name.At})
		}
	}
	tx.removeNames(gone)
}

// removeNames removes names. Where that fails, names without a scroll stay, which does no
// harm.
func (tx *transaction) removeNames(gone []phext.Scroll) {
	now := tx.visible[tx.namesPath]
	gone = slices.DeleteFunc(gone, func(s phext.Scroll) bool {
		_, exists := now.Phext.Select(s.At)
		return !exists
	})
	if len(gone) == 0 {
		return
	}
	next := now.With(gone[0].At, "")
	if len(gone) > 1 {
		next = now.WithAll(gone, tx.pace)
	}
	if err := tx.writeNames(next, gone...); err != nil {
		tx.log("the names of scrolls that are gone were not removed", err)
	}
}

// writeNames makes the names what next is, where these are all that are new, or are
// removed if they are empty.
func (tx *transaction) writeNames(next *cache.Version, changed ...phext.Scroll) (err error) {
	now, call := tx.visible[tx.namesPath], tx.lead.Call
	if tx.namesReserved == nil {
		// That there is room was found out together with the phext's own growth.
		w := quota.Write{File: call.NamesFileName(), Size: datadir.SizeOf(now), Removes: true}
		if tx.namesReserved, err = tx.w.Ledger.Reserve(tx.lead.Tenant, w); err != nil {
			return err
		}
	}
	entries, at, begin := make([]journal.Mutation, len(changed)), changed[0].At, tx.journal.BeginBatch
	for i, name := range changed {
		e := tx.lead.entry()
		e.File, e.Op, e.At, e.Text = call.NamesFileName(), journal.Update, name.At, name.Text
		e.Idempotency, e.Digest, e.Answer = "", "", ""
		entries[i] = e
	}
	if len(changed) > 1 {
		at, begin = phext.Origin(), tx.journal.BeginAll // the file is written as a whole
	}
	pending, err := begin(entries, func() (journal.State, error) { return datadir.StateOf(now), nil })
	if err != nil {
		return err
	}
	if err := tx.w.files.storeNames(tx.namesFile, now, next, at); err != nil {
		return errors.Join(err, tx.namesNotWritten(pending, now))
	}
	id, err := tx.w.files.identify(tx.namesFile)
	if err == nil {
		err = pending.Done(id)
	}
	if err != nil {
		tx.dir.MarkUnrecovered()
		return err
	}
	next.Noted(changed, tx.pace)
	tx.visible[tx.namesPath] = next.WithID(id)
	if tx.replica != nil {
		tx.replica.Add(entries, datadir.Known(tx.visible[tx.namesPath]), pending.Time())
	}
	return nil
}

// namesNotWritten notes that names were not written, and has recovery put right
// what may be left of them. If the disk may not have that, the error is
// journal.ErrUndecided: recovery might write them.
func (tx *transaction) namesNotWritten(pending *journal.Pending, now *cache.Version) error {
	var err error
	if id, failed := tx.w.files.identify(tx.namesFile); failed == nil && id.Size == now.Size() {
		err = pending.RolledBack(id)
	} else {
		tx.dir.MarkUnrecovered()
		err = pending.LeaveToRecovery()
	}
	if err == nil {
		err = pending.SyncRefusal()
	}
	if err != nil {
		tx.dir.MarkUnrecovered()
		err = errors.Join(journal.ErrUndecided, err)
	}
	return err
}

// storeNames writes the names. One behind all others, as a new one is, is
// appended, which costs the same however many there are.
func storeNames(links fsutil.Links) func(path string, now, next *cache.Version, at phext.Coordinate) error {
	return func(path string, now, next *cache.Version, at phext.Coordinate) error {
		last, ok := now.Phext.Last()
		if !ok || last.At.Compare(at) >= 0 || now.Size() != int64(now.Phext.RenderedSize()) {
			target, err := links.Target(path)
			if err != nil {
				return err
			}
			return fsutil.ReplaceFrom(target, datadir.StateOf(next), fsutil.NewFileMode, false)
		}
		name, _ := next.Phext.Select(at)
		tail := append(phext.AppendDelimiters(nil, last.At, at), name...)
		return appendTo(links, path, tail, now.Size())
	}
}

func appendTo(links fsutil.Links, path string, tail []byte, size int64) error {
	f, _, err := links.OpenFile(path, os.O_WRONLY)
	if err != nil {
		return err
	}
	if _, err = f.WriteAt(tail, size); err != nil {
		_ = f.Truncate(size) // the error that led here says more
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
