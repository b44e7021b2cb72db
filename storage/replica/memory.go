package replica

import (
	"context"

	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/internal/memlimit"
)

// An object of a log may take much less in the bucket than in memory. Of the logs of all
// directories, decodeAtOnce bytes are decoded at a time, or one object that takes more, and
// that of checkpoints too. Of what they hold, states keep small mutations and answers, within
// keptInAll and keptOfOne of one directory. All others are read again when they are needed.
const (
	decodeAtOnce   = 192 << 20
	keptInAll      = 64 << 20
	keptOfOne      = 16 << 20
	small          = 128 << 10 // bytes of the mutations of one group, and of an answer
	mutationBeside = 512       // bytes of a mutation beside its text, about
	answerBeside   = 128       // bytes of an answer beside its texts, about
)

// encodeAtOnce is how many bytes of answers are in memory at a time for the checkpoints that
// are made of them, or those of one checkpoint. Its encoding takes several times that.
const encodeAtOnce = 16 << 20

// Memory bounds what all directories of a process take in memory while their logs are
// read. That of nil has no bound but those of one directory.
type Memory struct {
	decoding, encoding *semaphore.Weighted
	kept               *memlimit.Budget
}

// NewMemory makes a Memory of which nothing is taken.
func NewMemory() *Memory {
	return &Memory{
		decoding: semaphore.NewWeighted(decodeAtOnce), encoding: semaphore.NewWeighted(encodeAtOnce),
		kept: memlimit.NewBudget(keptInAll),
	}
}

// decode waits until there is memory to decode an object. What is decoded of it is not to
// be used after release, but for what takes little.
func (m *Memory) decode(ctx context.Context, bytes int64) (release func(), err error) {
	if m == nil {
		return func() {}, nil
	}
	return acquire(ctx, m.decoding, min(bytes, decodeAtOnce))
}

// encode waits until there is memory for answers that have so many bytes, and the checkpoint
// that is made of them. Whoever has it may decode; whoever decodes may not wait for it.
func (m *Memory) encode(ctx context.Context, bytes int64) (release func(), err error) {
	if m == nil {
		return func() {}, nil
	}
	return acquire(ctx, m.encoding, min(bytes, encodeAtOnce))
}

func acquire(ctx context.Context, s *semaphore.Weighted, n int64) (release func(), err error) {
	if err := s.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return func() { s.Release(n) }, nil
}

// How many times its payload an object takes at most while it is decoded: as it was stored,
// in a buffer that may have grown to twice that, the payload, and copies of its texts. A
// checkpoint is also encoded again, to be compared.
const (
	decodeCosts           = 4
	decodeCheckpointCosts = 7
)

// keep says whether a state may keep more, which it has to give back.
func (m *Memory) keep(bytes int64) bool { return m == nil || m.kept.Take(bytes) }

func (m *Memory) give(bytes int64) {
	if m != nil {
		m.kept.Give(bytes)
	}
}
