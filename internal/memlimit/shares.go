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
	if owner == "" {
		return &Budget{limit: s.limit, shares: s}
	}
	return &Budget{limit: s.most, shares: s, owner: owner}
}

func (s *Shares) take(b *Budget, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	free, mine := s.limit-s.used, s.by[b.owner]+n
	if b.owner != "" && mine > max(1, free/eighth) {
		free -= s.limit / eighth
	}
	if n > free || mine > b.limit {
		return false
	}
	s.used, s.by[b.owner] = s.used+n, mine
	return true
}

func (s *Shares) give(b *Budget, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.by[b.owner] -= n; s.by[b.owner] == 0 {
		delete(s.by, b.owner)
	}
}

// SharedBy counts things as Shared does, for each owner in what it has of Shares.
type SharedBy struct {
	shares *Shares
	mu     sync.Mutex
	users  map[owned]int
}

// owned is a thing that an owner uses.
type owned struct {
	owner string
	thing any
}

// NewSharedBy counts within shares.
func NewSharedBy(shares *Shares) *SharedBy { return &SharedBy{shares: shares, users: map[owned]int{}} }

// Used is what all have.
func (s *SharedBy) Used() int64 { return s.shares.Used() }

// Take is Shared.Take for a user that is an owner's.
func (s *SharedBy) Take(owner string, thing any, n int64) (release func(), ok bool) {
	key, share := owned{owner, thing}, s.shares.Of(owner)
	n = min(n, share.limit)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[key] == 0 && !share.Take(n) {
		return nil, false
	}
	s.users[key]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users[key]--; s.users[key] == 0 {
			delete(s.users, key)
			share.Give(n)
		}
	}, true
}
