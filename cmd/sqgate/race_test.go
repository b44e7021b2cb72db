//go:build race

package main

// Memory cannot be measured in a build with -race.
func init() { raceEnabled = true }
