package phext

import "strings"

const namesExtension = NamesSuffix + Extension

// NamesFile is the file with the names of a phext's coordinates, by the phext's file.
func NamesFile(file string) string { return strings.TrimSuffix(file, Extension) + namesExtension }

// FileOfNames is the file of the phext whose names are in a file. Without such names, it is
// that file.
func FileOfNames(file string) (of string, isNames bool) {
	name, isNames := strings.CutSuffix(file, namesExtension)
	if !isNames {
		return file, false
	}
	return name + Extension, true
}
