package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"unsafe"

	"mirrorborn.us/sqgate/internal/apierror"
	"mirrorborn.us/sqgate/internal/etag"
	"mirrorborn.us/sqgate/internal/fairqueue"
	"mirrorborn.us/sqgate/internal/fsutil"
	"mirrorborn.us/sqgate/internal/logkey"
	"mirrorborn.us/sqgate/phext"
	"mirrorborn.us/sqgate/rewrite"
	"mirrorborn.us/sqgate/storage/cache"
	"mirrorborn.us/sqgate/storage/datadir"
	"mirrorborn.us/sqgate/storage/journal"
	"mirrorborn.us/sqgate/storage/sqclient"
	"mirrorborn.us/sqgate/tenants/quota"
)

// transaction is one write of a phext's file, for one mutation or for a batch.
// Its methods are the steps of Writer.commit.
type transaction struct {
	w       *Writer
	ctx     context.Context
	dir     *datadir.Dir
	journal *journal.Journal
	replica *datadir.Replica  // nil = there is no bucket
	upload  datadir.Uploading // of all that was written until unlock
	pace    phext.Pace        // lets others go first while it works without a turn
	lead    *mutation
	members []*mutation // that are made, in their order: lead first
	joined  []*mutation // that wait for the outcome: the other members, and those that were refused
	unlock  func()      // gives the directory to the next one
	ended   bool        // unlock was called
	repeats bool        // lead was answered before

	path, namesPath string
	at              string // the path by which dir is written, see datadir.Dir.Hold
	letGo           func() // of at
	file, namesFile string // path and namesPath by way of at
	before          datadir.View
	next            *cache.Version // the phext as it is to be
	largest         int64          // bytes of the phext after the member that makes it largest
	giveBack        func()         // the memory that next took
	giveBackBefore  func()         // the memory of before
	newName         bool           // lead's name gets a coordinate
	staleName       bool           // lead's coordinate has a name without a scroll
	lostName        bool           // a name goes with lead's scroll
	newNames        []phext.Scroll // of a batch: that are written before its scrolls; an empty one is removed
	namesNext       *cache.Version // the names with newNames; nil = as they are
	lostNames       []phext.Scroll // of a batch: that are removed after its scrolls
	reload          bool           // SQ has to read the file again first

	reserved, namesReserved *quota.Reservation
	diskSpace               *fsutil.ReservedSpace
	target                  string // the file that diskSpace can become: file, or what a link leads to
	tight                   bool   // the disk could be full in a moment
	onDisk                  bool   // the file system is not in memory alone
	frozen                  *cache.Frozen
	visible                 map[string]*cache.Version // what readers see after the commit
	pending                 *journal.Pending
	syncing                 sync.WaitGroup // waits for what startSync was given
	syncErr                 error          // what that returned

	calls   []*rewrite.Call // by which SQ makes the members
	child   *sqclient.Child
	sent    bool          // SQ may have seen a call
	aside   bool          // the old file is at journal.BeforePath
	written fsutil.FileID // the file that holds next
}

func (w *Writer) newTransaction(ctx context.Context, dir *datadir.Dir, lead *mutation, unlock func()) *transaction {
	tx := &transaction{
		w: w, ctx: context.WithoutCancel(ctx), pace: fairqueue.FromContext(ctx).Pace(), dir: dir, lead: lead, members: []*mutation{lead},
		path: lead.Call.FilePath(dir.Path), namesPath: filepath.Join(dir.Path, lead.Call.NamesFileName()),
	}
	tx.letGo, tx.giveBack, tx.giveBackBefore = nothing, nothing, nothing
	tx.unlock = func() {
		tx.ended = true
		tx.letGo()
		tx.giveBack()
		tx.giveBackBefore()
		tx.upload = tx.replica.Uploaded()
		unlock()
	}
	return tx
}

// openJournal finds the directory's journal, and its part of the bucket.
func (tx *transaction) openJournal() (answered bool, err error) {
	if tx.replica, err = tx.dir.Replica(); err != nil {
		return false, err
	}
	tx.journal, err = tx.w.Dirs.JournalOf(tx.dir)
	return false, err
}

// readPhext opens the directory first: what was read must be what is written to.
func (tx *transaction) readPhext() (answered bool, err error) {
	if tx.at, tx.letGo, err = tx.dir.Hold(); err != nil {
		return false, err
	}
	if err := tx.dir.WriteUnsynced(tx.ctx, tx.at); err != nil {
		tx.log("a phext could not be written to its disk, and cannot be written anew", err)
		return false, errNotRecorded
	}
	tx.file, tx.namesFile = filepath.Join(tx.at, filepath.Base(tx.path)), filepath.Join(tx.at, filepath.Base(tx.namesPath))
	tx.before, err = tx.dir.NewestView(tx.lead.Call)
	if err == nil {
		err = tx.dir.Holds(tx.at)
	}
	if err != nil {
		return false, err
	}
	if err := datadir.CheckKept(tx.before.Phext); err != nil {
		if !tx.lead.Call.ShowsAll() {
			err = errNotKept
		}
		return false, err
	}
	done, err := tx.dir.Use(tx.before)
	if err != nil {
		return false, err
	}
	tx.giveBackBefore = done
	tx.next = tx.before.Phext
	tx.reload = !tx.dir.SeenBySQ(tx.path, tx.before.Phext.ID)
	return false, nil
}

// apply works out what the file is to hold, and whether it may. done says that
// there is nothing to delete.
func (tx *transaction) apply() (answered bool, err error) {
	call := tx.lead.Call
	if tx.isBatch() {
		return tx.applyBatch()
	}
	if call.Op == rewrite.Delete && !tx.before.Phext.Exists() {
		tx.lead.result.Body = []byte(answerTo(call, ""))
		return true, tx.lead.checkPrecondition("", false)
	}
	if err := tx.applyOne(tx.lead); err != nil {
		return false, err
	}
	return false, tx.checkLimits()
}

// applyOne adds a mutation to what the file is to hold. Of a batch, only what the last
// mutation made is in use, and counts as memory.
func (tx *transaction) applyOne(m *mutation) error {
	old, exists := tx.next.Phext.Select(m.Call.At)
	name, _ := tx.before.Names.Phext.Select(m.Call.At)
	if err := m.Call.CheckChange(name, exists); err != nil {
		return err
	}
	if m.name = m.Call.Name; exists { // else nothing has the name any more
		m.name = cmp.Or(m.name, name)
	}
	if err := m.checkPrecondition(old, exists); err != nil {
		return err
	}
	inserted, err := tx.admit(textCost(m.Call, old), tx.before)
	if err != nil {
		return err
	}
	text := textAfter(m.Call, old)
	parsed, err := tx.admit(tx.next.WithCost(m.Call.At, text), tx.before)
	if err != nil {
		inserted()
		return err
	}
	release := parsed
	if textCost(m.Call, old) > uncharged {
		release = func() { inserted(); parsed() }
	}
	next := tx.next.WithPaced(m.Call.At, text, tx.pace)
	if err := datadir.CheckKept(next); err != nil {
		release()
		return err // delimiters in the text itself
	}
	tx.giveBack()
	tx.giveBack = release
	tx.next, tx.largest = next, max(tx.largest, next.Size())
	m.result.Body, m.result.ETag, m.size = []byte(answerTo(m.Call, old)), "", 0
	if now, exists := next.Phext.Select(m.Call.At); exists {
		m.result.ETag, m.size = etag.Paced(now, tx.pace), int64(len(now))
	}
	return nil
}

// admit makes room beside a view, unless it is little. release may always be called.
func (tx *transaction) admit(bytes int64, v datadir.View) (release func(), err error) {
	if bytes <= uncharged {
		return nothing, nil
	}
	if release, err = tx.dir.AdmitBeside(bytes, v); err != nil {
		return nothing, err
	}
	return release, nil
}

func nothing() {}

// uncharged is what a write may take in memory without being counted, in bytes.
const uncharged = 1 << 20

// textCost is the memory that textAfter takes, in bytes.
func textCost(call *rewrite.Call, old string) int64 {
	if call.Op == rewrite.Insert && old != "" {
		return int64(len(old) + len(call.Scroll))
	}
	return 0
}

// textAfter is what stands at the coordinate after the call.
func textAfter(call *rewrite.Call, old string) string {
	switch call.Op {
	case rewrite.Insert:
		return old + string(call.Scroll)
	case rewrite.Update:
		return textOf(call)
	}
	return ""
}

// textOf is the text of a call. A large one is not copied: nobody changes it, and it
// has its memory for itself, or most of it.
func textOf(call *rewrite.Call) string {
	if b := call.Scroll; len(b) > uncharged && cap(b) <= len(b)+len(b)/4 {
		return unsafe.String(unsafe.SliceData(b), len(b))
	}
	return string(call.Scroll)
}

// answerTo is what SQ says when it has done the call.
func answerTo(call *rewrite.Call, old string) string {
	switch call.Op {
	case rewrite.Insert:
		return "Inserted " + strconv.Itoa(len(call.Scroll)) + " bytes"
	case rewrite.Update:
		return "Updated " + strconv.Itoa(len(call.Scroll)) + " bytes"
	}
	return "Removed " + strconv.Itoa(len(old)) + " bytes"
}

// checkLimits refuses what SQ could not store, or not read again. SQ itself
// would answer 200.
func (tx *transaction) checkLimits() error {
	if size := tx.next.Size(); size > cache.Largest && size > tx.before.Phext.Size() {
		return apierror.New(apierror.TooLarge,
			"this is larger than %d bytes, or would make the phext so, which is the most there can be: store it in parts", int64(cache.Largest))
	} else if tx.replica != nil && size > tx.before.Phext.Size() {
		if err := tx.replica.Fits(size); err != nil {
			return err
		}
	}
	return datadir.CheckWritable(tx.file, tx.before.Phext.Exists())
}

// reserveQuota finds room for the growth of the phext and of its names: for that of each
// member, so that none passes because a later one makes the phext smaller.
func (tx *transaction) reserveQuota() (err error) {
	call := tx.lead.Call
	tx.reserved, err = tx.w.Ledger.Reserve(tx.lead.Tenant, quota.Write{
		File: call.FileName(), Size: datadir.SizeOf(tx.before.Phext), After: tx.largest + tx.nameGrowth(),
		Removes: !slices.ContainsFunc(tx.members, func(m *mutation) bool { return m.Call.Op != rewrite.Delete }),
	})
	return err
}

// recordEdits journals what somebody else made of the files since this gateway
// wrote them last, so that it is part of their history.
func (tx *transaction) recordEdits() error {
	call := tx.lead.Call
	if err := datadir.RecordEdit(tx.journal, call.FileName(), tx.before.Phext); err != nil {
		return err
	}
	if err := datadir.RecordEdit(tx.journal, call.NamesFileName(), tx.before.Names); err != nil {
		return err
	}
	if tx.replica == nil {
		return nil
	}
	return errors.Join(tx.replica.RecordEdit(call.FileName(), tx.before.Phext), tx.replica.RecordEdit(call.NamesFileName(), tx.before.Names))
}

// freezeReaders has readers see the files as they are now until publish.
func (tx *transaction) freezeReaders() error {
	now := map[string]*cache.Version{tx.path: tx.before.Phext, tx.namesPath: tx.before.Names}
	tx.frozen = tx.w.Dirs.Cache.Freeze(now)
	tx.visible = map[string]*cache.Version{tx.path: tx.before.Phext, tx.namesPath: tx.before.Names}
	return nil
}

func (tx *transaction) beginJournal() error {
	begin := tx.journal.BeginBatch
	if tx.isBatch() {
		begin = tx.journal.BeginAll
	}
	return tx.recorded(func() (err error) {
		tx.pending, err = begin(tx.entries(), func() (journal.State, error) { return datadir.StateOf(tx.before.Phext), nil })
		return err
	})
}

// recorded records something in the journal, and remembers why it could not.
func (tx *transaction) recorded(begin func() error) error {
	err := begin()
	if err != nil && apierror.From(err) == nil {
		err = fmt.Errorf("%w: %w", errNotRecorded, err)
		tx.w.notRecorded.Store(&err)
	} else if tx.w.notRecorded.Load() != nil {
		tx.w.notRecorded.Store(nil)
	}
	return err
}

func (tx *transaction) entries() []journal.Mutation {
	entries := make([]journal.Mutation, len(tx.members))
	for i, m := range tx.members {
		entries[i] = m.entry()
		entries[i].ETag, entries[i].Size = m.result.ETag, m.size
		if m.delimited { // then it is alone
			entries[i].ETag, entries[i].Size = "", tx.next.Size()
			entries[i].UpTo = m.Call.At.LastWith(tx.pace.Outermost(entries[i].Text))
		}
	}
	if m := tx.lead; tx.isBatch() && m.IdempotencyKey != "" {
		entries[0].Idempotency, entries[0].Digest, entries[0].Answer = m.idempotency(), m.digest(), string(m.result.Body)
	}
	return entries
}

// announce shows the write to those who listen for changes.
func (tx *transaction) announce(out outcome) {
	if out.err == nil && tx.pending != nil {
		tx.pending.Announce()
	}
}

// entry is the mutation as the journal has it.
func (m *mutation) entry() journal.Mutation {
	e := journal.Mutation{
		File: m.Call.FileName(), Op: journalOp(m.Call.Op), At: m.Call.At, Text: textOf(m.Call),
		Tenant: m.writer().UniqueID(), Key: m.KeyName, Note: m.name,
	}
	if m.IdempotencyKey != "" {
		e.Idempotency, e.Digest, e.Answer = m.idempotency(), m.digest(), string(m.result.Body)
	}
	return e
}

func journalOp(op rewrite.Op) journal.Op {
	switch op {
	case rewrite.Insert:
		return journal.Insert
	case rewrite.Update:
		return journal.Update
	}
	return journal.Delete
}

// journalDone notes that the file holds the write. Where the journal cannot
// note that, recovery finds the write begun and the file with it, and does.
func (tx *transaction) journalDone() {
	if err := tx.pending.Done(tx.written); err != nil {
		tx.log("the journal could not note the end of a write", err)
		tx.dir.MarkUnrecovered()
	}
}

// addToUpload has the write go to the bucket with the next upload.
func (tx *transaction) addToUpload() {
	if tx.replica != nil {
		tx.replica.Add(tx.entries(), datadir.Known(tx.next.WithID(tx.written)), tx.pending.Time())
	}
}

// publish lets readers see the write, which with a bucket happens in awaitUpload, and
// gives back what it had reserved.
func (tx *transaction) publish() {
	tx.visible[tx.path] = tx.next.WithID(tx.written)
	tx.dir.NoteSeen(tx.path, tx.written, tx.lead.delimited || tx.isBatch())
	used := tx.release()
	tx.lead.result.Changed, tx.lead.result.QuotaUsed = true, used
	for _, m := range tx.members {
		m.result.Changed, m.result.QuotaUsed = true, used
	}
}

// release ends what the steps before SQ began, except for the journal. It
// returns the part of the quota that is used.
func (tx *transaction) release() (used float64) {
	switch {
	case tx.frozen == nil:
	case tx.replica == nil:
		tx.frozen.Publish(tx.visible)
	default:
		tx.frozen.Written(tx.visible) // the next write goes on from it
	}
	if tx.namesReserved != nil {
		tx.namesReserved.Release()
	}
	if tx.reserved != nil {
		used = tx.reserved.Release()
	}
	tx.diskSpace.Release()
	return used
}

// startSync has what the answer rests on go to the disk while SQ works: the journal's record
// of the write, as a rule.
func (tx *transaction) startSync(sync func() error) {
	tx.syncing.Go(func() { tx.syncErr = sync() })
}

// awaitSync waits until the journal is as durable as its policy wants it. The
// next write goes on meanwhile, so that one sync serves several.
func (tx *transaction) awaitSync() outcome {
	tx.syncing.Wait()
	if tx.syncErr != nil {
		tx.log("a write stands in its file, but the journal is not on disk", tx.syncErr)
		return outcome{err: errNotDurable}
	}
	return outcome{}
}

// awaitUpload waits until everything that was written here is in the bucket, and what
// was written before, and lets readers see it. The next writes go on meanwhile.
func (tx *transaction) awaitUpload(out outcome) outcome {
	if tx.replica == nil {
		return out
	}
	err := tx.upload.Wait()
	if tx.frozen != nil {
		if err != nil {
			tx.visible = nil
		}
		tx.frozen.Publish(tx.visible)
	}
	switch made := tx.lead.result.Changed; {
	case err == nil:
		return out
	case made && !errors.Is(err, datadir.ErrMoved), errors.Is(out.err, errNotKnown):
		return outcome{err: cmp.Or(out.err, error(errNotUploaded))}
	}
	return outcome{err: datadir.ErrMoved}
}

func (tx *transaction) log(message string, err error) {
	tx.w.Logger.LogAttrs(tx.ctx, slog.LevelError, message, slog.String(logkey.Request, tx.lead.ID),
		slog.String(logkey.Tenant, tx.lead.Tenant.ID), slog.String(logkey.DataDir, tx.dir.Path), slog.Any(logkey.Error, tx.named(err)))
}

// named is err with the paths that the operator knows.
func (tx *transaction) named(err error) error { return fsutil.Named(err, tx.at, tx.dir.Path) }
