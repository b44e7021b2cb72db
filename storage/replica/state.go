package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// State is what the log says of a directory when it stands at Seq.
type State struct {
	Seq     uint64
	Files   map[string]*File // also those that were removed since the checkpoint
	Answers []object.Answer  // of the last day before the end of the log, oldest first
	Calls   []object.CallCounts
	// Checkpoint is the number of the checkpoint before; 0 = there is none.
	Checkpoint uint64

	d    *Directory
	time int64 // of the object at Seq; 0 = it was not read
}

// File is what the log says of a file. The zero File does not exist.
type File struct {
	base      *object.File       // in the checkpoint; nil = it has none, or it is not needed
	mutations []journal.Mutation // since base, in their order
	states    []object.FileState // after each group of them, and of earlier ones
}

// answerAge is how long an answer is needed.
const answerAge = 24 * time.Hour

// StateAt returns what the log says at a number, which it has reached. It reads the
// checkpoint before that, and the log behind it, but no file.
func (d *Directory) StateAt(ctx context.Context, seq uint64) (*State, error) {
	s := &State{Seq: seq, Files: map[string]*File{}, d: d}
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
		c, err := d.ReadCheckpoint(ctx, after)
		if err != nil {
			return nil, err
		}
		for _, f := range c.Files {
			s.Files[f.Name] = &File{base: &f}
		}
		s.Answers, s.Calls = c.Answers, c.Calls
	}
	for r, err := range d.Read(ctx, after, seq) {
		if err != nil {
			return nil, err
		}
		for _, g := range r.Groups {
			s.add(g)
		}
		s.time = r.Time
	}
	for len(s.Answers) > 0 && s.time-s.Answers[0].Time >= int64(answerAge) {
		s.Answers = s.Answers[1:]
	}
	return s, nil
}

func (s *State) add(g object.Group) {
	f := s.Files[g.File()]
	if f == nil {
		f = &File{}
		s.Files[g.File()] = f
	}
	for _, m := range g.Mutations {
		if m.Op == journal.Replace || m.Op == journal.Remove {
			f.base, f.mutations = nil, nil // what was before makes no difference
		}
		f.mutations = append(f.mutations, m)
		if m.Idempotency != "" {
			s.Answers = append(s.Answers, object.Answer{Time: g.Time, Tenant: m.Tenant, Idempotency: m.Idempotency, Digest: m.Digest, Answer: m.Answer})
		}
	}
	f.states = append(f.states, g.After)
}

// Is says whether the file is to be what state is.
func (f *File) Is(state journal.State) bool {
	switch {
	case len(f.states) > 0:
		return f.states[len(f.states)-1] == FileState(state)
	case f.base == nil: // the zero File
		return !state.Exists
	}
	return f.isBase(state)
}

// Was says whether the file was ever what state is, as far as the log was read.
func (f *File) Was(state journal.State) bool {
	now := FileState(state)
	for _, s := range f.states {
		if s == now {
			return true
		}
	}
	return f.isBase(state)
}

func (f *File) isBase(state journal.State) bool {
	return f.base != nil && state.Exists && int64(len(state.Text)) == f.base.Size && sha256.Sum256([]byte(state.Text)) == f.base.Hash
}

// FileState is a file's content as the log has it.
func FileState(state journal.State) object.FileState {
	if !state.Exists {
		return object.FileState{}
	}
	return object.FileState{Exists: true, Size: state.Size(), Sum: state.Sum()}
}

// Content is what a file is to be, and fetches its text from the checkpoint if that is
// needed. The error is ErrBroken if that is not what the log says.
func (s *State) Content(ctx context.Context, name string) (state journal.State, err error) {
	f := s.Files[name]
	if f == nil {
		return journal.State{}, nil
	}
	if f.base != nil {
		text, err := s.d.ReadFile(ctx, f.base.Hash)
		if err != nil {
			return journal.State{}, err
		}
		state = journal.State{Text: string(text), Exists: true}
	}
	state = state.AfterAll(f.mutations)
	if !f.Is(state) {
		return journal.State{}, fmt.Errorf("%w: %s of %s is not what its checksum says at number %d", ErrBroken, name, s.d.Name, s.Seq)
	}
	return state, nil
}

// Compact writes a checkpoint of what the log says now, so that nobody has to read what
// is before it. local returns what this host has of a file: it is used instead of the
// bucket's copy, if it is what the log says. It needs no lock, and returns the number.
func (l *Log) Compact(ctx context.Context, local func(name string) (journal.State, error)) (seq uint64, err error) {
	seq = l.End()
	s, err := l.d.StateAt(ctx, seq)
	if err != nil || s.Checkpoint == seq {
		return seq, err
	}
	content := func(name string) (journal.State, error) {
		if now, err := local(name); err == nil && s.Files[name].Is(now) {
			return now, nil
		}
		return s.Content(ctx, name)
	}
	c := object.Checkpoint{Seq: seq, Epoch: l.epoch, Time: s.time, Answers: s.Answers, Calls: s.Calls}
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		if f := s.Files[name]; f.base != nil && len(f.mutations) == 0 {
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
	return seq, l.WriteCheckpoint(ctx, c, func(f object.File) ([]byte, error) {
		state, err := content(f.Name)
		return []byte(state.Text), err
	})
}
