package apierror

import (
	"errors"
	"regexp"
)

// Unfinished is the error of work that was done in part, or may be: of several steps, one
// failed after another had changed something. It is the one place that decides what is said
// of that.
//
// Cause is why the step failed. It speaks of that step alone, and may say that nothing was
// changed, or that another host is to be asked. So it is no part of what errors.Is and
// errors.As find, and its text comes without such a claim.
type Unfinished struct {
	Cause error
	told  *Error
}

// Partly is err as the error of work of which a part may be done. The message says of which,
// and what is to be done now. Work that is a part of other work says so already.
func Partly(err error, message string, args ...any) error {
	if err == nil || IsUnfinished(err) {
		return err
	}
	return &Unfinished{err, New(NotKnown, message, args...)}
}

// AsUnfinished is the Unfinished in err, or nil.
func AsUnfinished(err error) *Unfinished {
	var u *Unfinished
	if !errors.As(err, &u) {
		return nil
	}
	return u
}

// IsUnfinished says whether a part of what failed may be done.
func IsUnfinished(err error) bool { return AsUnfinished(err) != nil }

// Error is for whoever may know the cause.
func (u *Unfinished) Error() string { return u.told.Message + ": " + withoutClaim(u.Cause.Error()) }

func (u *Unfinished) Unwrap() error { return u.told }

const claim = `nothing (?:was (?:changed|done|written)|else was)`

var (
	claimInFront = regexp.MustCompile(`(^|[:;] )` + claim + `(?:, because|:) `) // of the cause
	claimBehind  = regexp.MustCompile(`[:;,]?(?:^| )(?:so |and )?` + claim)
)

// withoutClaim is the text of an error without the words that nothing was changed.
func withoutClaim(text string) string {
	return claimBehind.ReplaceAllString(claimInFront.ReplaceAllString(text, "$1"), "")
}
