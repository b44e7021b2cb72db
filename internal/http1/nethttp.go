//go:build nethttp

package http1

const plainRequests = false
