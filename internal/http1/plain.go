//go:build !nethttp

package http1

// plainRequests is false only in the bench, which shows what serving plain
// requests here brings: then net/http gets every connection.
const plainRequests = true
