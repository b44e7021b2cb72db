package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sync/semaphore"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// State is what the log says of a directory when it stands at Seq.
type State struct {
	Seq   uint64
	Of    string           // as Directory.Of
	Files map[string]*File // also those that were removed since the checkpoint
	Calls []object.CallCounts
	// Checkpoint is the number of the checkpoint before; 0 = there is none.
	Checkpoint uint64
	// Read is how many bytes the objects of the log after the checkpoint have, as they are
	// in memory: what everybody has to read who wants to know what the log says.
	Read int64

	d    *Directory
	time int64         // of the object at Seq; 0 = it was not read
	last int64         // see LastChange
	kept *atomic.Int64 // bytes of the mutations that changes have, and of the answers that are kept

	answers     []answer // of the last day before the end of the log, oldest first
	answerBytes int      // of their texts
	inObject    struct { // how many answers there were so far in the object at seq
		seq uint64
		n   int
	}
}

// File is what the log says of a file. The zero File does not exist.
type File struct {
	base    *object.File       // in the checkpoint; nil = it has none, or it is not needed
	changes []change           // since base, in their order
	states  []object.FileState // after each group of them, and of earlier ones
	largest int64              // bytes of the largest of states
	object  int64              // bytes of the payload of the largest object that has to be read again
}

// change is what one object of the log did to a file: its first groups of it. mutations are
// those, if they are small; else they are read again.
type change struct {
	seq       uint64
	groups    int
	mutations []journal.Mutation
	again     bool
}

// StateAt returns what the log says at a number, which it has reached. It reads the
// checkpoint before that, and the log behind it, but no file.
func (d *Directory) StateAt(ctx context.Context, seq uint64) (*State, error) {
	s := &State{Seq: seq, Files: map[string]*File{}, d: d, kept: new(atomic.Int64)}
	if d.Memory != nil {
		runtime.AddCleanup(s, func(kept *atomic.Int64) { d.Memory.give(kept.Load()) }, s.kept)
	}
	checkpoints, err := d.Checkpoints(ctx)
	if err != nil {
		return nil, err
	}
	var after uint64
	for _, c := range checkpoints {
		if c.Seq <= seq {
			after = c.Seq
		}
	}
	if s.Checkpoint = after; after > 0 {
		err := d.useCheckpoint(ctx, after, func(c object.Checkpoint) error {
			for _, f := range c.Files {
				s.Files[f.Name] = &File{base: &f}
			}
			s.Of, s.Calls = c.Of, c.Calls
			for _, a := range c.Answers {
				s.addAnswer(after, a)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for r, err := range d.Read(ctx, after, seq) {
		if err != nil {
			return nil, err
		}
		s.read(r)
	}
	s.dropAnswers(s.time)
	return s, nil
}

// TryFor is the Patience of what is read for it from now on.
func (s *State) TryFor(patience time.Duration) {
	d := *s.d
	d.Patience = patience
	s.d = &d
}

func (s *State) read(r Record) {
	if r.Opens {
		s.Belongs(r.Of)
	}
	for _, g := range r.Groups {
		s.add(r, g)
	}
	s.time, s.Read = r.Time, s.Read+r.Bytes
}

// LastChange is when the last mutation was done for a tenant, as Journal.LastChange; 0 =
// that was before the checkpoint.
func (s *State) LastChange() int64 { return s.last }

// Belongs says for which tenant the directory is from now on. Another one than before
// inherits nothing.
func (s *State) Belongs(of string) {
	if of == s.Of {
		return
	}
	s.ForgetAnswers()
	s.Of, s.Calls = of, nil
	for name := range s.Files {
		s.Files[name] = &File{}
	}
}

// add takes a group of an object into account. The groups of one object follow each other.
func (s *State) add(r Record, g object.Group) {
	f := s.Files[g.File()]
	if f == nil {
		f = &File{}
		s.Files[g.File()] = f
	}
	if g.Mutations[0].Tenant != "" {
		s.last = g.Time
	}
	var size int64
	for _, m := range g.Mutations {
		if m.Op == journal.Replace || m.Op == journal.Remove {
			f.forget(r.Seq) // what was before makes no difference
		}
		size += mutationBeside + int64(len(m.Text))
	}
	for _, a := range answersOf(g) {
		s.addAnswer(r.Seq, a)
	}
	c := f.changeOf(r.Seq)
	c.groups++
	if !c.again && s.keep(size) {
		for _, m := range g.Mutations {
			m.Idempotency, m.Digest, m.Answer = "", "", "" // which have a place of their own
			c.mutations = append(c.mutations, m)
		}
	} else {
		c.again, c.mutations = true, nil
		f.object = max(f.object, r.Bytes)
	}
	f.states = append(f.states, g.After)
	f.largest = max(f.largest, g.After.Size)
}

// keep says whether the mutations of a group, or an answer, may be kept, which have so many
// bytes.
func (s *State) keep(size int64) bool {
	if size > small || s.kept.Load()+size > keptOfOne || !s.d.Memory.keep(size) {
		return false
	}
	s.kept.Add(size)
	return true
}

// forget drops what was before the object with a number.
func (f *File) forget(seq uint64) {
	f.base = nil
	if n := len(f.changes); n > 0 && f.changes[n-1].seq == seq {
		f.changes = f.changes[n-1:]
	} else {
		f.changes = nil
	}
}

// changeOf is what the object with a number did, which is the last one so far.
func (f *File) changeOf(seq uint64) *change {
	if n := len(f.changes); n == 0 || f.changes[n-1].seq != seq {
		f.changes = append(f.changes, change{seq: seq})
	}
	return &f.changes[len(f.changes)-1]
}

// Exists says whether there is to be such a file.
func (f *File) Exists() bool {
	if n := len(f.states); n > 0 {
		return f.states[n-1].Exists
	}
	return f.base != nil
}

// Size is how many bytes the file is to have.
func (f *File) Size() int64 {
	switch n := len(f.states); {
	case n > 0:
		return f.states[n-1].Size
	case f.base != nil:
		return f.base.Size
	}
	return 0
}

// Is says whether the file is to be what has these sums.
func (f *File) Is(sums Sums) bool {
	switch {
	case len(f.states) > 0:
		return f.states[len(f.states)-1] == sums.FileState
	case f.base == nil: // the zero File
		return !sums.Exists
	}
	return f.isBase(sums)
}

// Was says whether the file was ever what has these sums, as far as the log was read.
func (f *File) Was(sums Sums) bool {
	return slices.Contains(f.states, sums.FileState) || f.isBase(sums)
}

func (f *File) isBase(sums Sums) bool {
	return f.base != nil && sums.Exists && sums.Size == f.base.Size && sums.Hash == f.base.Hash
}

// Sums are what the log and checkpoints know a file's content by. The zero Sums are
// those of no file.
type Sums struct {
	object.FileState
	Hash object.Hash
}

// SumsOf are those of a state.
func SumsOf(state journal.State) Sums {
	if !state.Exists {
		return Sums{}
	}
	hash := sha256.New()
	_, _ = state.WriteTo(hash) // which takes everything
	return Sums{FileState(state), object.Hash(hash.Sum(nil))}
}

// ReadSums reads a file to its end.
func ReadSums(r io.Reader) (Sums, error) {
	sum, hash := xxh3.New(), sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, hash), r)
	return Sums{object.FileState{Exists: true, Size: n, Sum: sum.Sum128().Bytes()}, object.Hash(hash.Sum(nil))}, err
}

// FileState is a file's content as the log has it.
func FileState(state journal.State) object.FileState {
	if !state.Exists {
		return object.FileState{}
	}
	return object.FileState{Exists: true, Size: state.Size(), Sum: state.Sum()}
}

// Memory is how many bytes WriteTo takes in memory: none if the file is in the bucket as
// it is to be.
func (f *File) Memory() (n int64) {
	if f.base != nil {
		if len(f.changes) == 0 {
			return 0
		}
		n = f.base.Size
	}
	return n + f.largest + f.Size() + f.object
}

// WriteTo makes an empty file on the disk what the log says, and returns what it holds.
func (s *State) WriteTo(ctx context.Context, name string, out *os.File) (object.FileState, error) {
	if f := s.Files[name]; f != nil && f.base != nil && len(f.changes) == 0 {
		return s.d.copyFile(ctx, f.base.Hash, out)
	}
	state, err := s.Content(ctx, name)
	if err == nil {
		_, err = out.WriteString(state.Text)
	}
	return FileState(state), err
}

// Content is what a file is to be, and fetches texts from the checkpoint and the log if they
// are needed. The error is ErrBroken if that is not what the log says.
func (s *State) Content(ctx context.Context, name string) (state journal.State, err error) {
	f := s.Files[name]
	if f == nil {
		return journal.State{}, nil
	}
	if f.base != nil {
		text, err := s.d.ReadFile(ctx, *f.base)
		if err != nil {
			return journal.State{}, err
		}
		state = journal.State{Text: text, Exists: true}
	}
	progress := journal.NewProgress(state)
	for _, c := range f.changes {
		if err := s.apply(ctx, progress, name, c); err != nil {
			return journal.State{}, err
		}
	}
	state = progress.State()
	if !f.Is(SumsOf(state)) {
		return journal.State{}, fmt.Errorf("%w: %s of %s is not what its checksum says at number %d", ErrBroken, name, s.d.Name, s.Seq)
	}
	return state, nil
}

// apply makes the mutations of a change.
func (s *State) apply(ctx context.Context, p *journal.Progress, name string, c change) error {
	for _, m := range c.mutations {
		p.Apply(m)
	}
	if !c.again {
		return nil
	}
	return s.d.useLog(ctx, c.seq, func(l object.Log) error {
		left := c.groups
		for _, g := range l.Groups {
			if g.File() != name || left == 0 {
				continue
			}
			left--
			for _, m := range g.Mutations {
				p.Apply(m)
			}
		}
		return nil
	})
}

// Compact writes a checkpoint of what the log says now, so that nobody has to read what
// is before it. local returns what this host has of a file: it is used instead of the
// bucket's copy, if it is what the log says. calls are the counts of now; nil = those of
// the checkpoint before. It needs no lock, and returns the number.
func (l *Log) Compact(ctx context.Context, local func(name string) (journal.State, error), calls []object.CallCounts) (seq uint64, err error) {
	if err := l.housekeeping.Acquire(ctx, 1); err != nil {
		return 0, err
	}
	defer l.housekeeping.Release(1)
	seq = l.End()
	s, err := l.d.StateAt(ctx, seq)
	if err != nil || s.Checkpoint == seq {
		return seq, err
	}
	memory := semaphore.NewWeighted(textsAtOnce)
	content := func(name string) (journal.State, error) {
		if now, err := local(name); err == nil && s.Files[name].Is(SumsOf(now)) {
			return now.Whole(), nil
		}
		size := min(s.Files[name].Memory(), textsAtOnce)
		if err := memory.Acquire(ctx, size); err != nil {
			return journal.State{}, err
		}
		defer memory.Release(size)
		return s.Content(ctx, name)
	}
	if calls == nil {
		calls = s.Calls
	}
	c := object.Checkpoint{Seq: seq, Epoch: l.epoch, Of: s.Of, Time: s.time, Calls: calls}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		if f := s.Files[name]; f.base != nil && len(f.changes) == 0 {
			c.Files = append(c.Files, *f.base)
			continue
		}
		state, err := content(name)
		if err != nil {
			return seq, err
		}
		if state.Exists {
			c.Files = append(c.Files, object.File{Name: name, Hash: sha256.Sum256([]byte(state.Text)), Size: int64(len(state.Text))})
		}
	}
	return seq, l.writeCheckpointLocked(ctx, c, s.Answers(ctx), s.answersCost(), func(f object.File) ([]byte, error) {
		state, err := content(f.Name)
		return []byte(state.Text), err
	})
}
