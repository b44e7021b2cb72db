//go:build !truncate

package writer

// recreateFiles is false only in the bench, which shows what recreating brings.
const recreateFiles = true
