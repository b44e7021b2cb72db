package replica

import (
	"context"
	"fmt"
	"iter"
	"slices"

	"mirrorborn.us/sqgate/storage/bucket/object"
	"mirrorborn.us/sqgate/storage/journal"
)

// The answers to Idempotency-Keys of one directory may be so long, and so many, that those of
// a few directories are too much for memory. So a state has only where each of them is, and
// those that are small as long as there is memory for them.

// answer is where an answer is: the index-th one of the object of the log at seq or, if that
// is the number of the state's checkpoint, of the checkpoint.
type answer struct {
	seq    uint64
	index  int
	time   int64
	writer journal.AnswerWriter
	text   int            // bytes of its text
	cost   int64          // bytes that all of it takes in memory
	kept   *object.Answer // nil = it is read again
}

// answersOf are the answers that a group has.
func answersOf(g object.Group) (all []object.Answer) {
	for _, m := range g.Mutations {
		if m.Idempotency != "" {
			all = append(all, object.Answer{Time: g.Time, Tenant: m.Tenant, Idempotency: m.Idempotency, Digest: m.Digest, Answer: m.Answer})
		}
	}
	return all
}

// addAnswer adds the next answer of an object, and drops those that the journal forgets for
// it.
func (s *State) addAnswer(seq uint64, a object.Answer) {
	if s.inObject.seq != seq {
		s.inObject.seq, s.inObject.n = seq, 0
	}
	n := answer{seq: seq, index: s.inObject.n, time: a.Time, writer: journal.AnswerWriterOf(a.Tenant, a.Idempotency), text: len(a.Answer), cost: answerCost(a)}
	s.inObject.n++
	if s.keep(n.cost) {
		n.kept = &a
	}
	s.answers, s.answerBytes = append(s.answers, n), s.answerBytes+n.text
	s.dropAnswers(a.Time)
}

func answerCost(a object.Answer) int64 {
	return int64(answerBeside + len(a.Tenant) + len(a.Idempotency) + len(a.Digest) + len(a.Answer))
}

// answersCost is how many bytes all answers take in memory.
func (s *State) answersCost() (bytes int64) {
	for _, a := range s.answers {
		bytes += a.cost
	}
	return bytes
}

// dropAnswers drops those that are too old, and then those that are too many or too long.
func (s *State) dropAnswers(now int64) {
	old := 0
	for old < len(s.answers) && now-s.answers[old].time >= int64(journal.AnswerAge) {
		s.dropAnswer(s.answers[old])
		old++
	}
	clear(s.answers[:old])
	s.answers = s.answers[old:]
	if journal.AnswersFit(len(s.answers), s.answerBytes) {
		return
	}
	forget := journal.AnswersToForget(len(s.answers), func(i int) (journal.AnswerWriter, int) {
		return s.answers[i].writer, s.answers[i].text
	})
	i := -1
	s.answers = slices.DeleteFunc(s.answers, func(a answer) bool {
		if i++; forget[i] {
			s.dropAnswer(a)
		}
		return forget[i]
	})
}

func (s *State) dropAnswer(a answer) {
	s.answerBytes -= a.text
	if a.kept != nil {
		s.kept.Add(-a.cost)
		s.d.Memory.give(a.cost)
	}
}

// ForgetAnswers is for whoever needs no answers, and keeps the state.
func (s *State) ForgetAnswers() {
	for _, a := range s.answers {
		s.dropAnswer(a)
	}
	s.answers = nil
}

// Answers are those to the Idempotency-Keys of the last day before the end of the log, oldest
// first. The last pair has an error if they cannot be had. What is not kept is read again, an
// object at a time, and is not to be used after the next one is asked for. Meanwhile nothing
// else may be read of a log.
func (s *State) Answers(ctx context.Context) iter.Seq2[object.Answer, error] {
	return func(yield func(object.Answer, error) bool) {
		left := s.answers
		// use passes those on that are next: as long as they are kept, or of an object that has
		// all of these.
		use := func(seq uint64, all []object.Answer) bool {
			for len(left) > 0 {
				next := left[0]
				switch {
				case next.kept != nil:
					all := *next.kept
					if !yield(all, nil) {
						return false
					}
				case next.seq != seq:
					return true
				case next.index >= len(all):
					yield(object.Answer{}, fmt.Errorf("%w: number %d of %s has fewer answers than before", ErrBroken, seq, s.d.Name))
					return false
				case !yield(all[next.index], nil):
					return false
				}
				left = left[1:]
			}
			return true
		}
		if !use(0, nil) {
			return
		}
		if len(left) > 0 && left[0].seq == s.Checkpoint {
			more := true
			err := s.d.useCheckpoint(ctx, s.Checkpoint, func(c object.Checkpoint) error {
				more = use(c.Seq, c.Answers)
				return nil
			})
			if err != nil {
				yield(object.Answer{}, err)
			}
			if err != nil || !more {
				return
			}
		}
		for r, err := range s.d.objects(ctx, again(left)) {
			if err != nil {
				yield(object.Answer{}, err)
				return
			}
			var all []object.Answer
			for _, g := range r.Groups {
				all = append(all, answersOf(g)...)
			}
			if !use(r.Seq, all) {
				return
			}
		}
	}
}

// again are the numbers of the objects that have answers which are not kept.
func again(answers []answer) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		var last uint64
		for _, a := range answers {
			if a.kept == nil && a.seq != last {
				if last = a.seq; !yield(last) {
					return
				}
			}
		}
	}
}
