package archive

import (
	"errors"
	"fmt"
	"strings"

	"mirrorborn.us/sqgate/internal/apierror"
)

var (
	// errBadArchive means that what was asked for cannot be an archive of the
	// tenant. The error is an *archiveError.
	errBadArchive = errors.New("not an archive of this tenant")
	// errNoArchive means that there is no archive of this name.
	errNoArchive = apierror.New(apierror.NotFound, "no such archive")
	// errDamaged means that an archive does not hold what it was made of.
	errDamaged = apierror.New(apierror.Conflict, "archive is damaged")
	// errNotEmpty means that there are files in the data directory that are
	// not those of the archive; none of them was touched.
	errNotEmpty = apierror.New(apierror.Conflict, "data directory holds files that are not in the archive")
	// errChanged means that a file was written to while it was archived; it
	// is still there.
	errChanged = apierror.New(apierror.Conflict, "changed while it was archived")
	// errNotBase means that a file's name is not that of a file directly in
	// the data directory.
	errNotBase = errors.New("not a plain file name")
	// errNotRegular means that there is no regular file under a name, but
	// something else.
	errNotRegular = errors.New("not a regular file")
)

// archiveError is what is wrong with the archive a caller asked for.
type archiveError struct {
	Field   string // "archive" or "id"
	Problem string
}

func (e *archiveError) Error() string { return fmt.Sprintf("field %q %s", e.Field, e.Problem) }

// APIError is what a caller is told.
func (e *archiveError) APIError() *apierror.Error {
	return apierror.New(apierror.BadRequest, "%s", e.Error())
}

func (e *archiveError) Is(target error) bool { return target == errBadArchive }

func badArchive(format string, args ...any) error {
	return &archiveError{Field: "archive", Problem: fmt.Sprintf(format, args...)}
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDamaged, fmt.Errorf(format, args...))
}

// checkVaultID keeps ids out of which a path could be made that leads away, or
// a hidden file.
func checkVaultID(id string) error {
	if !isBaseName(id) || strings.HasPrefix(id, ".") {
		return &archiveError{Field: "id", Problem: fmt.Sprintf("%q cannot be part of a file name", id)}
	}
	return nil
}

func isBaseName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}
