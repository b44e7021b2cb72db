package fsutil

import (
	"errors"
	"io"
	"unicode/utf8"
)

// textStep is how much of a text is in memory while it is checked, in bytes.
const textStep = 64 << 10

// IsText reads r to its end and says whether it is UTF-8. It stops at the first
// byte that is not. The error is that of r.
func IsText(r io.Reader) (bool, error) {
	buf := make([]byte, textStep)
	begun := 0 // bytes at the start of buf, of a character that is not complete
	for {
		n, err := r.Read(buf[begun:])
		chunk := buf[:begun+n]
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return false, err
		}
		whole := len(chunk)
		if !ended {
			whole -= incomplete(chunk)
		}
		if !utf8.Valid(chunk[:whole]) {
			return false, nil
		}
		if ended {
			return true, nil
		}
		begun = copy(buf, chunk[whole:])
	}
}

// incomplete is how many bytes at the end of text may be the beginning of a character.
func incomplete(text []byte) int {
	for n := 1; n <= min(len(text), utf8.UTFMax-1); n++ {
		if last := text[len(text)-n:]; utf8.RuneStart(last[0]) {
			if utf8.FullRune(last) {
				return 0
			}
			return n
		}
	}
	return 0
}
