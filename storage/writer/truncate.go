//go:build truncate

package writer

const recreateFiles = false
