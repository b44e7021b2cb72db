package memlimit

import "sync"

// Shares is a limit that is divided between owners, so that few of them cannot keep the
// others out. None has more than most, and the last eighth is for those who have little:
// no more than an eighth of what is free then.
type Shares struct {
	limit, most int64

	mu   sync.Mutex
	used int64
	by   map[string]int64 // by owner
}

const eighth = 8

// NewShares divides limit, of which no owner has more than most.
func NewShares(limit, most int64) *Shares {
	return &Shares{limit: limit, most: most, by: map[string]int64{}}
}

// Limit is the most that all together may have.
func (s *Shares) Limit() int64 { return s.limit }

// Used is what all have.
func (s *Shares) Used() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// Of is the budget of an owner. That of "" is bounded by the limit alone. It knows no
// shortage, level or garbage.
func (s *Shares) Of(owner string) *Budget {
	return &Budget{limit: s.mostOf(owner), shares: s, owner: owner}
}

// mostOf is the most that an owner may have.
func (s *Shares) mostOf(owner string) int64 {
	if owner == "" {
		return s.limit
	}
	return s.most
}

// take takes n more for an owner, and all for everybody together.
func (s *Shares) take(owner string, n, all int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, mine := s.limit-s.used, s.by[owner]+n
	if owner != "" && mine > max(1, free/eighth) {
		free -= s.limit / eighth
	}
	if all > max(0, free) || mine > s.mostOf(owner) {
		return false
	}
	s.used, s.by[owner] = s.used+all, mine
	return true
}

func (s *Shares) give(owner string, n, all int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= all
	if s.by[owner] -= n; s.by[owner] == 0 {
		delete(s.by, owner)
	}
}

// SharedBy counts things as Shared does: once in all, and once for each owner in what it has
// of Shares.
type SharedBy struct {
	shares *Shares
	mu     sync.Mutex
	users  map[owned]int
	things map[any]counted
}

// owned is a thing that an owner uses.
type owned struct {
	owner string
	thing any
}

// counted is a thing that somebody uses.
type counted struct {
	owners int
	size   int64 // as it counts in all
}

// NewSharedBy counts within shares.
func NewSharedBy(shares *Shares) *SharedBy {
	return &SharedBy{shares: shares, users: map[owned]int{}, things: map[any]counted{}}
}

// Used is what all have.
func (s *SharedBy) Used() int64 { return s.shares.Used() }

// Take is Shared.Take for a user that is an owner's. Give gives the room back.
func (s *SharedBy) Take(owner string, thing any, n int64) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, is := owned{owner, thing}, s.things[thing]
	if s.users[key] == 0 {
		n = min(n, s.shares.mostOf(owner))
		more := int64(0)
		if is.owners == 0 {
			is.size, more = n, n
		}
		if !s.shares.take(owner, n, more) {
			return false
		}
		is.owners++
		s.things[thing] = is
	}
	s.users[key]++
	return true
}

// Give counts out one user of a thing that Take has counted in.
func (s *SharedBy) Give(owner string, thing any, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, is := owned{owner, thing}, s.things[thing]
	if s.users[key]--; s.users[key] > 0 {
		return
	}
	delete(s.users, key)
	less := int64(0)
	if is.owners--; is.owners == 0 {
		less = is.size
		delete(s.things, thing)
	} else {
		s.things[thing] = is
	}
	s.shares.give(owner, min(n, s.shares.mostOf(owner)), less)
}
