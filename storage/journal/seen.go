package journal

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"mirrorborn.us/sqgate/internal/fsutil"
)

// A new segment knows nothing of the files that are not written in it. Which ones they
// were when the segment before it ended is in seenFile: else nobody could tell, after a
// restart, that somebody else has changed or removed one, or put it back. It counts for one
// segment alone. If there is none for it, as after a sqgate that does not know it, the same
// is read from the segments before. Recovery does not need it.

// seenFile begins and ends with a header that has the number of the segment. Between them
// is a record of each file. Its number is that of the newest segment that has the file.
const seenFile = "seen"

// carryOver returns what is still known of the files when a segment ends, as far as a
// segment from oldest on has them, or none has yet.
func carryOver(files map[string]*fileState, oldest uint64) map[string]*fileState {
	next := map[string]*fileState{}
	for file, t := range files {
		if t.known && len(t.pending) == 0 && (t.segment == 0 || t.segment >= oldest) {
			next[file] = &fileState{lastSeen: t.lastSeen, known: true, segment: t.segment}
		}
	}
	return next
}

// saveSeen writes what is known of the files when a segment begins. If that fails, or a
// power cut takes it, it is read from the segments.
func (j *Journal) saveSeen(segment uint64, files map[string]*fileState) {
	if err := j.cfg.replace(filepath.Join(j.dir, seenFile), seenWriter{segment, files}, 0o600, false); err != nil {
		j.cfg.Logger.Warn("what is known of the phexts could not be noted", "data_dir", j.dataDir, "error", err)
	}
}

type seenWriter struct {
	segment uint64
	files   map[string]*fileState
}

func (w seenWriter) WriteTo(to io.Writer) (size int64, err error) {
	out, end := bufio.NewWriterSize(to, edge), record{kind: header, seq: w.segment, version: formatPlain}
	var b []byte
	write := func(r record) error {
		if b, err = frame(b[:0], r); err != nil {
			return err
		}
		n, err := out.Write(b)
		size += int64(n)
		return err
	}
	if err := write(end); err != nil {
		return size, err
	}
	for _, file := range slices.Sorted(maps.Keys(w.files)) {
		t := w.files[file]
		if err := write(record{kind: seen, seq: t.segment, m: Mutation{File: file}, id: t.lastSeen, idKnown: true}); err != nil {
			return size, err
		}
	}
	if err := write(end); err != nil {
		return size, err
	}
	return size, out.Flush()
}

// seenBefore returns what was known of the files when a segment began. Where that cannot be
// read, nothing is known.
func (j *Journal) seenBefore(number uint64) map[string]*fileState {
	files, err := j.readSeen(number)
	if err != nil {
		j.cfg.Logger.Error("what is known of the phexts could not be read", "data_dir", j.dataDir, "error", err)
		return map[string]*fileState{}
	}
	return files
}

func (j *Journal) readSeen(number uint64) (map[string]*fileState, error) {
	numbers, _, err := segments(j.dir)
	numbers = slices.DeleteFunc(numbers, func(n uint64) bool { return n < j.from }) // which are of others
	if err != nil || len(numbers) == 0 || numbers[0] >= number {
		return map[string]*fileState{}, err
	}
	if files, err := j.loadSeen(number); files != nil || err != nil {
		return carryOver(files, numbers[0]), err
	}
	files := map[string]*fileState{}
	for _, n := range numbers {
		if n >= number {
			break
		}
		if err := j.addSeen(files, n); err != nil {
			return nil, err
		}
	}
	j.saveSeen(number, files)
	return files, nil
}

// loadSeen is nil if seenFile is not there, is damaged or is of another segment.
func (j *Journal) loadSeen(number uint64) (files map[string]*fileState, err error) {
	f, err := fsutil.Open(filepath.Join(j.dir, seenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	files = map[string]*fileState{}
	ends := 0
	_, err = walkRecords(f, info.Size(), func(r record) error {
		switch {
		case r.kind == seen:
			files[strings.Clone(r.m.File)] = &fileState{lastSeen: r.id, known: r.idKnown, segment: r.seq}
		case r.kind == header && r.seq == number:
			ends++
		}
		return nil
	})
	if ends != 2 {
		return nil, err
	}
	return files, err
}

// addSeen adds what a segment says of files, up to its first damage.
func (j *Journal) addSeen(files map[string]*fileState, number uint64) error {
	f, err := fsutil.Open(filepath.Join(j.dir, segmentName(number)))
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	logs := map[string]*fileLog{}
	_, err = walkRecords(f, info.Size(), func(r record) error {
		if r.kind == header {
			return nil
		}
		t := logs[r.m.File]
		if t == nil {
			t = &fileLog{}
			logs[strings.Clone(r.m.File)] = t
		}
		t.add(r, math.MaxInt64)
		t.applied, t.base = nil, 0
		return nil
	})
	for file, t := range logs {
		delete(files, file)
		if t.known && len(t.pending) == 0 {
			files[file] = &fileState{lastSeen: t.lastSeen, known: true, segment: number}
		}
	}
	return err
}

// NoteIdentity notes which file it is of which the next mutation makes a checkpoint, if
// nothing is known of it. So an edit is noticed even if that mutation does not happen.
func (j *Journal) NoteIdentity(file string, id fsutil.FileID) error {
	if err := checkName(file); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil {
		return err
	}
	if t := j.fileLocked(file); !t.known && !t.hasCheckpoint && len(t.pending) == 0 {
		t.lastSeen, t.known = id, true
	}
	return nil
}

// renumber follows files to the number that their file system has now: with a reboot, or
// when it is mounted again, it may get another. Recovery does that for those that the newest
// segment has.
func (j *Journal) renumber(at string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.openLocked(); err != nil || j.seg == nil {
		return err
	}
	changed := false
	for file, t := range j.files {
		if t.segment == j.seg.number || !t.lastSeen.Exists() {
			continue
		}
		id, err := j.cfg.Links.Identify(filepath.Join(at, file))
		was := t.lastSeen
		if was.Dev = id.Dev; err == nil && id == was && id != t.lastSeen {
			t.lastSeen, changed = id, true
		}
	}
	if changed {
		j.saveSeen(j.seg.number, j.files)
	}
	return nil
}
