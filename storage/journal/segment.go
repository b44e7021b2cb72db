package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"mirrorborn.us/sqgate/internal/fsutil"
)

const segmentSuffix = ".seg"

// segment is the newest one, to which records are appended.
type segment struct {
	number          uint64
	f               *os.File
	end             int64 // bytes of whole records
	allocated       int64 // bytes up to which disk space is allocated
	created         int64
	boot            string      // id of the run of the kernel in which it was begun
	seq             uint64      // the highest number of a mutation or checkpoint
	checkpointBytes int64       // bytes of checkpoints, in it and in files beside it
	inlineBytes     int64       // bytes of checkpoints in it
	unsynced        []*os.File  // checkpoint files
	failed          error       // of a sync; what it should have made durable may be lost
	info            fs.FileInfo // of f, to find out whether it is still at its path
	stopped         string      // its position at the clean stop that is noted; "" = none is
	format          byte        // its version
	latest          int64       // when the latest mutation in it began, when it was opened
}

// close frees the disk space behind the last record and closes all files.
func (s *segment) close() error {
	err := errors.Join(s.f.Truncate(s.end), s.f.Close())
	for _, f := range s.unsynced {
		err = errors.Join(err, f.Close())
	}
	s.unsynced = nil
	return err
}

// goneFrom says whether the segment is no longer in dir: somebody removed it, or
// moved it or dir away. Nobody would find there what is written to it.
func (s *segment) goneFrom(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, segmentName(s.number)))
	if err != nil { // a disk that fails is another matter
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
	}
	return !os.SameFile(info, s.info)
}

func segmentName(number uint64) string { return fmt.Sprintf("%08d%s", number, segmentSuffix) }

func checkpointName(number, seq uint64) string { return fmt.Sprintf("%08d-%d.chk", number, seq) }

// parseFileName returns the segment to which a file in a journal belongs.
func parseFileName(name string) (number uint64, isSegment, ok bool) {
	stem, isSegment := strings.CutSuffix(name, segmentSuffix)
	if !isSegment {
		if stem, ok = strings.CutSuffix(name, ".chk"); !ok {
			return 0, false, false
		}
		stem, _, _ = strings.Cut(stem, "-")
	}
	number, err := strconv.ParseUint(stem, 10, 64)
	return number, isSegment, err == nil && number > 0
}

// segments returns the numbers of the segments in dir, oldest first, and the
// highest number in any file name there.
func segments(dir string) (numbers []uint64, highest uint64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("looking for journals: %w", err)
	}
	for _, e := range entries {
		n, isSegment, ok := parseFileName(e.Name())
		if !ok {
			continue
		}
		highest = max(highest, n)
		if isSegment {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, highest, nil
}

// diskUsage returns the bytes of each segment with its checkpoints, by number,
// and the bytes of everything in dir.
func diskUsage(dir string) (of map[uint64]int64, total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	of = map[uint64]int64{}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned in the meantime
		}
		if err != nil {
			return nil, 0, err
		}
		if n, _, ok := parseFileName(e.Name()); ok {
			of[n] += info.Size()
		}
		total += info.Size()
	}
	return of, total, nil
}

// readHeader returns the first record of a segment. ok is false if it is
// damaged.
func readHeader(f *os.File) (rec record, ok bool, err error) {
	info, err := f.Stat()
	if err != nil {
		return record{}, false, err
	}
	payload, n, err := nextFrame(f, info.Size())
	if err != nil || n == 0 {
		return record{}, false, err
	}
	rec, ok = decode(payload)
	if !ok || rec.kind != header || rec.version < formatPlain {
		return record{}, false, fmt.Errorf("%s %w", f.Name(), ErrFormat)
	}
	if rec.version > version {
		return record{}, false, fmt.Errorf("%s %w", f.Name(), ErrVersion)
	}
	return rec, true, nil
}

// createSegmentLocked creates segment number and syncs it. The note of a clean stop is that of an
// earlier one, which may have had the same number.
func (j *Journal) createSegmentLocked(number uint64) (*segment, error) {
	if err := os.Remove(filepath.Join(j.dir, stopFile)); fsutil.IgnoreMissing(err) != nil {
		return nil, err
	}
	s := &segment{number: number, created: j.tickLocked(), boot: j.cfg.BootID, format: max(j.format, formatPlain)}
	f, err := os.OpenFile(filepath.Join(j.dir, segmentName(number)), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("beginning a segment of the journal: %w", err)
	}
	s.f = f
	s.info, err = f.Stat()
	if err == nil {
		err = j.writeHeader(s)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return s, nil
}

func (j *Journal) writeHeader(s *segment) error {
	b, err := frame(nil, record{kind: header, time: s.created, boot: s.boot, version: s.format})
	if err != nil {
		return err
	}
	if err := j.write(s.f, b, 0); err != nil {
		return fmt.Errorf("beginning a segment of the journal: %w", err)
	}
	s.end = int64(len(b))
	return errors.Join(j.cfg.Datasync(s.f), j.cfg.syncDir(j.dir))
}

const pathFile = "data_dir"

// dataDirOf is the data_dir of the journal in dir. A journal without it was not completely
// created, and has no records.
func dataDirOf(dir string) (string, error) {
	path, err := fsutil.ReadFile(filepath.Join(dir, pathFile))
	return strings.TrimSuffix(string(path), "\n"), err
}

// establishDir creates the directory of the journal, with its note, and a file that says
// which data_dir it is for. removed says that the journal is not what it was.
func (j *Journal) establishDir(removed bool) error {
	path := filepath.Join(j.dir, pathFile)
	_, err := os.Stat(path)
	if err == nil && !removed {
		return nil
	}
	if err := makeDir(j.dir); err != nil {
		return err
	}
	if err := j.renewID(); err != nil {
		return err
	}
	if err == nil {
		return nil
	}
	if err := j.cfg.replace(path, strings.NewReader(j.dataDir+"\n"), 0o600, true); err != nil {
		return fmt.Errorf("beginning a journal: %w", err)
	}
	return j.cfg.syncDir(j.cfg.Dir)
}
