package replica

import (
	"context"
	"sync"
	"time"

	"mirrorborn.us/sqgate/storage/bucket/object"
)

// largestUpload is how many bytes of texts and answers go into one object of the log, if there
// is more than one group.
const largestUpload = 8 << 20

// Uploader appends the groups of a directory to its log. Groups that come while an
// upload is under way wait, and all go into the next object: with many writers, the
// way to the bucket limits how soon each is answered, and not how many are. While
// nothing is to be uploaded, it has no goroutine and costs nothing.
type Uploader struct {
	lease  context.Context
	append func(context.Context, []object.Group) (seq uint64, err error)

	mu        sync.Mutex
	waiting   []submission
	uploading bool         // an upload is under way
	oldest    time.Time    // when the first of those was handed over that are on their way
	bytes     int          // of the texts and answers that wait and are on their way
	settling  []chan error // wait for it
	running   bool
	failed    error // of an upload; nothing is uploaded after it
	idle      sync.WaitGroup

	wanted int           // so many mutations are worth waiting for
	enough chan struct{} // closed when they wait; nil = nobody waits for them
}

type submission struct {
	group   object.Group
	results []chan error
	at      time.Time // when it was handed over
}

// NewUploader makes an uploader for a log, of which it gets the Append. lease ends with this
// host's lease.
func NewUploader(lease context.Context, appendTo func(context.Context, []object.Group) (seq uint64, err error)) *Uploader {
	return &Uploader{lease: lease, append: appendTo}
}

// Submit hands groups over, of which there is one at least. They go into one object
// together, if their texts are not too large for that. The channel gets nil once they and
// all that were submitted before them are in the bucket, or an error of Log.Append. It never
// waits, and the order of the calls is the order in the log. After Wait, nothing may be
// submitted.
func (u *Uploader) Submit(groups ...object.Group) (result <-chan error) {
	told := make(chan error, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.failed != nil {
		told <- u.failed
		return told
	}
	now := time.Now()
	for _, g := range groups {
		u.bytes += textSize(g)
		u.waiting = append(u.waiting, submission{group: g, at: now})
	}
	last := &u.waiting[len(u.waiting)-1]
	last.results = append(last.results, told)
	if !u.running {
		u.running = true
		u.idle.Go(u.upload)
	}
	if u.enough != nil && u.mutationsLocked() >= u.wanted {
		close(u.enough)
		u.enough = nil
	}
	return told
}

// Settled is for whoever has seen what was submitted so far: the channel gets nil once
// all of that is in the bucket, which is at once if nothing is on its way, or an error
// of Log.Append.
func (u *Uploader) Settled() (result <-chan error) {
	told := make(chan error, 1)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch last := len(u.waiting) - 1; {
	case u.failed != nil:
		told <- u.failed
	case last >= 0:
		u.waiting[last].results = append(u.waiting[last].results, told)
	case u.uploading:
		u.settling = append(u.settling, told)
	default:
		told <- nil
	}
	return told
}

// Wait waits until everything submitted has its result, which it has at the latest
// some time after the lease ends.
func (u *Uploader) Wait() { u.idle.Wait() }

// Waiting is how many groups have no result yet, without those that are being
// uploaded.
func (u *Uploader) Waiting() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.waiting)
}

// Behind is how long ago the oldest group was submitted that is not known to be in the
// bucket, and the bytes of the texts and answers of all such groups. Both are 0 if there is none.
func (u *Uploader) Behind() (since time.Duration, bytes int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.uploading:
		return time.Since(u.oldest), u.bytes
	case len(u.waiting) > 0:
		return time.Since(u.waiting[0].at), u.bytes
	}
	return 0, 0
}

// Failed is the error of an upload that has failed; nothing is uploaded after it.
func (u *Uploader) Failed() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed
}

// upload runs as long as there is something to upload.
func (u *Uploader) upload() {
	for taken := u.take(); taken != nil; taken = u.take() {
		groups, mutations := make([]object.Group, len(taken)), 0
		for i, s := range taken {
			groups[i] = s.group
			mutations += len(s.group.Mutations)
		}
		begun := time.Now()
		_, err := u.append(u.lease, groups)
		took := time.Since(begun)
		if err != nil {
			taken = append(taken, u.fail(err)...)
		}
		for _, s := range append(taken, u.settled(taken)) {
			for _, result := range s.results {
				result <- err
			}
		}
		if err == nil {
			u.gather(mutations, min(took, longestGather))
		}
	}
}

// longestGather is more than SQ needs. After an upload that was slow, those who waited for it may be
// gone, and others wait.
const longestGather = 250 * time.Millisecond

// gather waits for those who were just answered, up to the time that their upload took:
// they often write again at once, and SQ needs a moment for all of them. If the next
// upload began without them, half of all writers would always wait for the upload of the
// other half, with twice as many requests. A single writer waits for nothing.
func (u *Uploader) gather(answered int, limit time.Duration) {
	u.mu.Lock()
	waiting := u.mutationsLocked()
	u.wanted, u.enough = answered+waiting, make(chan struct{})
	enough := u.enough
	u.mu.Unlock()
	select {
	case <-enough:
	case <-time.After(limit):
	case <-u.lease.Done():
	}
	u.mu.Lock()
	u.enough = nil
	u.mu.Unlock()
}

// mutationsLocked is how many mutations wait.
func (u *Uploader) mutationsLocked() (n int) {
	for _, s := range u.waiting {
		n += len(s.group.Mutations)
	}
	return n
}

// take takes what goes into the next object. If there is nothing, the goroutine of
// upload ends.
func (u *Uploader) take() (taken []submission) {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, size := 0, 0
	for ; n < len(u.waiting); n++ {
		if size += textSize(u.waiting[n].group); n > 0 && size > largestUpload {
			break
		}
	}
	taken, u.waiting, u.uploading = u.waiting[:n:n], u.waiting[n:], n > 0
	if n == 0 {
		u.running, u.waiting = false, nil
		return nil
	}
	u.oldest = taken[0].at
	return taken
}

func textSize(g object.Group) (n int) {
	for _, m := range g.Mutations {
		n += len(m.Text) + len(m.Answer)
	}
	return n
}

// settled ends an upload, and returns those who wait for it to end.
func (u *Uploader) settled(taken []submission) submission {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, s := range taken {
		u.bytes -= textSize(s.group)
	}
	all := u.settling
	u.uploading, u.settling = false, nil
	return submission{results: all}
}

// fail returns all that waits.
func (u *Uploader) fail(err error) []submission {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.failed = err
	all := u.waiting
	u.waiting = nil
	return all
}
