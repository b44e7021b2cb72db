package replica

import (
	"context"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/internal/memlimit"
)

// An object of a log may take much less in the bucket than in memory. Of the logs of all
// directories, decodeAtOnce bytes are decoded at a time, or one object that takes more. Of
// what they hold, states keep small texts, within textsKept in all and textsKeptOfOne of
// one directory. All others are read again when they are needed.
const (
	decodeAtOnce       = 192 << 20
	mutationsKept      = 64 << 20
	mutationsKeptOfOne = 16 << 20
	smallGroup         = 128 << 10 // bytes of the mutations of one group
	mutationBeside     = 512       // bytes of a mutation beside its text, about
)

// Memory bounds what all directories of a process take in memory while their logs are
// read. That of nil has no bound but those of one directory.
type Memory struct {
	decoding *semaphore.Weighted
	kept     *memlimit.Budget
}

// NewMemory makes a Memory of which nothing is taken.
func NewMemory() *Memory {
	return &Memory{decoding: semaphore.NewWeighted(decodeAtOnce), kept: memlimit.NewBudget(mutationsKept)}
}

// decode waits until there is memory to decode an object. What is decoded of it is not to
// be used after release, but for what takes little.
func (m *Memory) decode(ctx context.Context, payload int64) (release func(), err error) {
	if m == nil {
		return func() {}, nil
	}
	n := min(decodeCosts*payload, decodeAtOnce)
	if err := m.decoding.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { m.decoding.Release(n) }, nil
}

// decodeCosts is how many times its payload an object takes at most while it is decoded: as
// it was stored, in a buffer that may have grown to twice that, and the payload.
const decodeCosts = 3

// keep says whether a state may keep more mutations, which it has to give back.
func (m *Memory) keep(bytes int64) bool { return m == nil || m.kept.Take(bytes) }

func (m *Memory) give(bytes int64) { m.kept.Give(bytes) }
