package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// cutDamageLocked quarantines what is behind the last whole record of the
// newest segment, and truncates the segment there. size is the size of its file
// in bytes.
func (j *Journal) cutDamageLocked(size int64) error {
	s := j.seg
	lost := size - s.end
	path, err := j.quarantine(io.NewSectionReader(s.f, s.end, lost), "journal-damage", segmentName(s.number))
	if err != nil {
		return err
	}
	if err := s.f.Truncate(s.end); err != nil {
		return fmt.Errorf("ending a damaged segment: %w", err)
	}
	j.reportDamageLocked(lost, path)
	return nil
}

// discardSegmentLocked quarantines and removes a segment without a header.
func (j *Journal) discardSegmentLocked(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 { // an empty one comes from a crash while it was created
		path, err := j.quarantine(io.NewSectionReader(f, 0, info.Size()), "journal-damage", filepath.Base(f.Name()))
		if err != nil {
			return err
		}
		j.reportDamageLocked(info.Size(), path)
		j.lostSegment = true
	}
	j.mustRotate = true
	return os.Remove(f.Name())
}

func (j *Journal) reportDamageLocked(lost int64, path string) {
	j.damaged += lost
	j.quarantinedPaths = append(j.quarantinedPaths, path)
	j.cfg.Logger.Warn("the journal is damaged; what cannot be read is quarantined",
		"data_dir", j.dataDir, "bytes", lost, "quarantine", path)
}

// quarantine copies in to a file in the quarantine and returns its path.
func (j *Journal) quarantine(in io.Reader, reason, file string) (string, error) {
	if err := makeDir(j.cfg.Quarantine); err != nil {
		return "", err
	}
	out, err := j.createQuarantineFile(reason, file)
	if err != nil {
		return "", fmt.Errorf("quarantining: %w", err)
	}
	_, err = io.Copy(out, in)
	if err == nil && j.cfg.Sync != Off {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("quarantining: %w", err), os.Remove(out.Name()))
	}
	return out.Name(), nil
}

// moveToQuarantine moves a directory to a name that is not taken.
func (j *Journal) moveToQuarantine(dir, reason string) error {
	name := j.quarantineName(reason, "journal")
	for n := 0; ; n++ {
		path := name
		if n > 0 {
			path = fmt.Sprintf("%s.%d", name, n)
		}
		err := os.Rename(dir, path)
		if !errors.Is(err, fs.ErrExist) {
			return errors.Join(err, j.cfg.syncDir(j.cfg.Quarantine))
		}
	}
}

// quarantineName is the path of something in the quarantine, which may be taken.
func (j *Journal) quarantineName(reason, file string) string {
	stamp := j.cfg.Now().UTC().Format("20060102T150405.000000000Z")
	name := stamp + "-" + reason + "-" + printable(j.dataDir) + "-" + file
	return filepath.Join(j.cfg.Quarantine, name[:min(len(name), 240)])
}

// createQuarantineFile creates a file with a name that is not taken.
func (j *Journal) createQuarantineFile(reason, file string) (*os.File, error) {
	name := j.quarantineName(reason, file)
	for n := 0; ; n++ {
		path := name
		if n > 0 {
			path = fmt.Sprintf("%s.%d", name, n)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return f, err
		}
	}
}

// unixNano is t in nanoseconds since 1970, or the nearest value that there is.
func unixNano(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, -1<<63)):
		return -1 << 63
	case t.After(time.Unix(0, 1<<63-1)):
		return 1<<63 - 1
	}
	return t.UnixNano()
}
