package journal

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// Journal is the journal of one data_dir. Its methods may be called
// concurrently, but only one mutation, or one batch of them, may be pending at
// a time.
type Journal struct {
	cfg          *settings
	dataDir, dir string // the directories of the phexts and of the journal

	pruneMu  sync.RWMutex // held for reading by readers of old segments, for writing by prune
	pruneDue atomic.Bool  // prune was put off, because somebody reads
	syncMu   sync.Mutex   // held while syncing, rotating or closing; locked before mu

	mu         sync.Mutex
	isOpen     bool
	closed     bool
	seg        *segment // the newest one; nil if there is none yet, or if not isOpen
	files      map[string]*fileState
	answers    *answers
	mustRotate bool            // the next mutation begins a new segment
	format     byte            // of the next segment, at least
	from       uint64          // the first segment that is of those who have the data_dir; see ownerFile
	claim      *claim          // of those who have it now; nil = it is as it was
	unsynced   map[string]bool // see unsyncedFile; nil = it was not read
	recovering bool            // nothing is appended but what a recovery finds
	recovered  bool            // the files were recovered since the start
	cleanStop  bool            // the newest segment was stopped in order before that, and they were not recovered yet
	inDoubt    bool            // it was not, so the files may not be what it says
	saidMoved  atomic.Bool     // that the data_dir was moved then
	lastTime   int64           // of the latest record, in nanoseconds since 1970

	written, synced    uint64 // bytes appended since the start, with the headers of segments, and how many of them are on disk
	lostFrom, lostUpTo uint64 // the range of bytes that a failed sync may have lost
	lost               error  // of that sync

	changes changesState
	sealer  cipher.AEAD // of positions; nil = it is not made yet

	damaged          int64    // bytes of the journal found damaged since the last Recover
	lostSegment      bool     // a whole segment is among them
	quarantinedPaths []string // where copies of them are
}

// fileState is what is known of a file, except its content.
type fileState struct {
	hasCheckpoint bool          // the newest segment has one
	checkpointEnd uint64        // value of written after that checkpoint; 0 = an earlier process wrote it, and Recover synced it
	lastSeen      fsutil.FileID // see Journal.LastSeen
	known         bool          // whether lastSeen is known
	mustRollBack  bool          // a mutation was left to recovery
	pending       []record      // mutations that have not ended, in order, without their text
	segment       uint64        // the newest one that has a record of it
}

// tickLocked returns the current time, but later than any that it returned
// before.
func (j *Journal) tickLocked() int64 {
	j.lastTime = max(j.cfg.Now().UnixNano(), j.lastTime+1)
	return j.lastTime
}

// openLocked reads the newest segment, unless the journal is open.
func (j *Journal) openLocked() error {
	if j.closed {
		return ErrClosed
	}
	if j.isOpen {
		return nil
	}
	j.answers.free() // of an attempt that failed
	j.files, j.answers = map[string]*fileState{}, nil
	a, err := j.loadAnswers()
	if err != nil {
		return err
	}
	j.answers = a
	if j.changes.floor, err = j.readFloor(); err != nil {
		return err
	}
	note, err := j.cfg.noteOf(j.dir)
	if err != nil {
		return err
	}
	if note != nil {
		j.from = note.From
	}
	if err := j.openNewestLocked(); err != nil {
		return fmt.Errorf("opening the journal of %s: %w", j.dataDir, err)
	}
	if j.isOpen = true; !j.recovered && j.seg != nil && !j.cleanStop {
		j.cleanStop = j.seg.stopped != ""
		j.inDoubt = !j.cleanStop
	}
	return nil
}

func (j *Journal) openNewestLocked() error {
	for {
		numbers, _, err := segments(j.dir)
		if err != nil || len(numbers) == 0 || numbers[len(numbers)-1] < j.from {
			return err
		}
		if opened, err := j.openSegmentLocked(numbers[len(numbers)-1]); err != nil || opened {
			return err
		}
	}
}

// openSegmentLocked opens one segment. It quarantines a segment without a
// header and returns false: the one before it is the newest then.
func (j *Journal) openSegmentLocked(number uint64) (bool, error) {
	f, _, err := fsutil.Links(nil).OpenFile(filepath.Join(j.dir, segmentName(number)), os.O_RDWR)
	if err != nil {
		return false, err
	}
	head, ok, err := readHeader(f)
	if err == nil && !ok {
		return false, errors.Join(j.discardSegmentLocked(f), f.Close())
	}
	if err == nil {
		j.seg = &segment{number: number, f: f, created: head.time, boot: head.boot, format: head.version}
		j.format = max(j.format, head.version)
		j.seg.info, err = f.Stat()
	}
	if err == nil {
		j.files = j.seenBefore(number)
		err = j.loadLocked()
	}
	if err != nil {
		j.seg = nil
		return false, errors.Join(err, f.Close())
	}
	return true, nil
}

// loadLocked reads the open segment up to the first damage.
func (j *Journal) loadLocked() error {
	s, size := j.seg, j.seg.info.Size()
	var err error
	s.end, err = walkRecords(s.f, size, func(r record) error {
		if r.kind == begun || r.kind == begunAll { // which recovery records none of
			s.latest = max(s.latest, r.time)
		}
		j.noteLocked(r)
		return nil
	})
	if err != nil {
		return err
	}
	j.mustRotate = j.mustRotate || s.boot != j.cfg.BootID
	if s.stopped, err = j.stoppedAt(s); err != nil || s.end == size {
		return err
	}
	j.mustRotate = true
	return j.cutDamageLocked(size)
}

// noteLocked updates what is known of a file with a record of the newest
// segment.
func (j *Journal) noteLocked(r record) {
	j.lastTime = max(j.lastTime, r.time+int64(r.last()-r.seq))
	j.seg.seq = max(j.seg.seq, r.last())
	if r.kind == header {
		return
	}
	t := j.fileLocked(r.m.File)
	t.segment = j.seg.number
	switch r.kind {
	case checkpoint, edited:
		j.seg.checkpointBytes += r.content.size
		j.seg.inlineBytes += int64(len(r.content.text))
		*t = fileState{hasCheckpoint: true, lastSeen: r.id, known: r.idKnown, segment: j.seg.number}
	case seen:
		t.lastSeen, t.known, t.mustRollBack = r.id, r.idKnown, false
	case begun, begunAll:
		r.keepNoText()
		t.pending = append(t.pending, r)
	case done, aborted, toRollBack:
		j.noteEndLocked(t, r)
	case endedAll:
		r.kind = r.ended
		j.noteEndLocked(t, r)
	}
}

func (j *Journal) noteEndLocked(t *fileState, r record) {
	b, ok := takePending(&t.pending, r.seq)
	if !ok {
		return
	}
	if r.kind == done {
		j.noteAnswersLocked(b, r.time)
	}
	if r.kind == done || r.kind == toRollBack || r.idKnown {
		t.lastSeen, t.known = r.id, r.idKnown
	}
	t.mustRollBack = r.kind == toRollBack
}

// takePending removes the mutation with number seq from those that are pending.
func takePending(open *[]record, seq uint64) (record, bool) {
	for i, r := range *open {
		if r.seq == seq {
			*open = slices.Delete(*open, i, i+1)
			return r, true
		}
	}
	return record{}, false
}

func (j *Journal) fileLocked(file string) *fileState {
	t := j.files[file]
	if t == nil {
		t = &fileState{}
		j.files[strings.Clone(file)] = t
	}
	return t
}

// Phexts are the names of the files that are there as far as the journal knows, sorted.
func (j *Journal) Phexts() (names []string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return nil, err
	}
	return phextsOf(j.files), nil
}

func phextsOf(files map[string]*fileState) (names []string) {
	for name, t := range files {
		if t.known && t.lastSeen.Exists() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// PeekPhexts is Phexts as after a start. It changes nothing, and so may be called while
// another process has the journal.
func (j *Journal) PeekPhexts() ([]string, error) {
	files, err := j.peekFiles()
	return phextsOf(files), err
}

// PeekSeen returns the files of PeekPhexts, each as LastSeen. whole says that nothing is left to
// a recovery.
func (j *Journal) PeekSeen() (seen map[string]fsutil.FileID, whole bool, err error) {
	files, err := j.peekFiles()
	seen, whole = map[string]fsutil.FileID{}, files != nil
	for _, name := range phextsOf(files) {
		seen[name] = files[name].lastSeen
	}
	for _, t := range files {
		whole = whole && t.known && len(t.pending) == 0 && !t.mustRollBack
	}
	return seen, whole, err
}

// peekFiles is nil if there is no journal.
func (j *Journal) peekFiles() (map[string]*fileState, error) {
	numbers, _, err := segments(j.dir)
	note, noteErr := j.cfg.noteOf(j.dir)
	if err = errors.Join(err, noteErr); err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(numbers) {
		if note != nil && n < note.From {
			break
		}
		look := &Journal{cfg: j.cfg, answers: j.cfg.newAnswers()}
		if note == nil || n > note.From { // else what was seen before is others'
			look.files, err = j.loadSeen(n)
		}
		if look.files == nil {
			look.files = map[string]*fileState{}
		}
		whole, failed := look.peek(filepath.Join(j.dir, segmentName(n)))
		err = errors.Join(err, failed)
		look.answers.free()
		if whole || err != nil {
			return look.files, err
		}
	}
	return nil, nil
}

// peek reads a segment. It is false if that has no header: the one before it is the newest.
func (j *Journal) peek(path string) (whole bool, err error) {
	f, err := fsutil.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if _, whole, err = readHeader(f); !whole || err != nil {
		return whole, err
	}
	j.seg = &segment{}
	_, err = walkRecords(f, info.Size(), func(r record) error { j.noteLocked(r); return nil })
	return true, err
}

// LastSeen returns the identity that the file had after the last mutation,
// RecordEdit or Recover. It is unknown while a mutation is pending, and it may
// be unknown before the first mutation since a start. If the file has another
// identity now, somebody else changed it.
func (j *Journal) LastSeen(file string) (fsutil.FileID, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		j.cfg.Logger.Error("opening the journal", "data_dir", j.dataDir, "error", err)
		return fsutil.FileID{}, false
	}
	t := j.files[file]
	if t == nil || !t.known || len(t.pending) > 0 {
		return fsutil.FileID{}, false
	}
	return t.lastSeen, true
}

// Suspend syncs all files, also the phexts, closes them, and frees the memory
// until the journal is used again. Pending mutations stay valid.
func (j *Journal) Suspend() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.suspendLocked()
}

func (j *Journal) suspendLocked() error {
	var err error
	if j.seg != nil {
		err = errors.Join(j.syncLastLocked(), j.stopCleanLocked(), j.seg.close())
	}
	j.answers.free()
	j.seg, j.files, j.answers, j.isOpen = nil, nil, nil, false
	return err
}

func (j *Journal) close() error {
	j.syncMu.Lock()
	defer j.syncMu.Unlock()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.closed = true
	return j.suspendLocked()
}
