package journal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/zeebo/xxh3"
)

// A frame is the length of a record (4 bytes), its xxh3 hash (8 bytes) and the
// record. Both numbers are little-endian.
const frameHead = 12

// ErrTooLong is returned for a record that is too long for a frame.
var ErrTooLong = errors.New("is too long for the journal")

// frame appends the frame of r to b.
func frame(b []byte, r record) ([]byte, error) {
	start := len(b)
	b = r.encode(append(b, make([]byte, frameHead)...))
	payload := b[start+frameHead:]
	if uint64(len(payload)) > math.MaxUint32 {
		return nil, fmt.Errorf("a mutation of %s %w", r.m.File, ErrTooLong)
	}
	binary.LittleEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.LittleEndian.PutUint64(b[start+4:], xxh3.Hash(payload))
	return b, nil
}

// walkRecords calls visit with each record in the first size bytes of r, and
// returns where the last whole record ends. Damage is not an error: the walk
// ends there.
func walkRecords(r io.ReaderAt, size int64, visit func(record) error) (good int64, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), int(min(size, 1<<16)))
	for {
		rec, n, err := nextRecord(in, size-good)
		if err != nil || n == 0 {
			return good, err
		}
		rec.offset = good
		if err := visit(rec); err != nil {
			return good, err
		}
		good += n
	}
}

// nextRecord reads a record and returns its size in bytes. The size is 0 if
// there is no whole record.
func nextRecord(in io.Reader, left int64) (record, int64, error) {
	payload, n, err := nextFrame(in, left)
	if err != nil || n == 0 {
		return record{}, 0, err
	}
	rec, ok := decode(payload)
	if !ok {
		return record{}, 0, nil
	}
	return rec, n, nil
}

// nextFrame reads a frame, and returns the record in it, not decoded, and the
// size of the frame in bytes. The size is 0 if there is no whole frame.
func nextFrame(in io.Reader, left int64) (payload string, n int64, err error) {
	var head [frameHead]byte
	if left <= frameHead {
		return "", 0, nil
	}
	if err := fill(in, head[:]); err != nil {
		return "", 0, unlessShort(err)
	}
	size := int64(binary.LittleEndian.Uint32(head[:]))
	if size == 0 || size > left-frameHead {
		return "", 0, nil
	}
	b := make([]byte, size)
	if err := fill(in, b); err != nil {
		return "", 0, unlessShort(err)
	}
	if xxh3.Hash(b) != binary.LittleEndian.Uint64(head[4:]) {
		return "", 0, nil
	}
	return string(b), frameHead + size, nil
}

func fill(in io.Reader, b []byte) error {
	_, err := io.ReadFull(in, b)
	return err
}

// unlessShort returns nil if a file only ended early.
func unlessShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("reading the journal: %w", err)
}

// readRecord reads the record that walkRecords found at off.
func readRecord(r io.ReaderAt, off, size int64) (record, error) {
	rec, n, err := nextRecord(io.NewSectionReader(r, off, size-off), size-off)
	if err == nil && n == 0 {
		err = fmt.Errorf("the record at %d of the journal %w", off, ErrDamaged)
	}
	rec.offset = off
	return rec, err
}
