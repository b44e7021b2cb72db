package mcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"mirrorborn.us/sqgate/rewrite"
)

const instructions = `Texts in phexts. A phext is a file of texts with a name. Each text, called a scroll, has a coordinate: nine numbers from 1 to 999, such as 1.1.1/1.1.1/1.1.1, or a name with dots, such as notes.today.1. Find scrolls with list or search, then read them.`

// How much of an answer a model gets, in bytes.
const (
	mostText    = 64 << 10
	defaultText = 32 << 10
)

// Defaults for tools that answer with several entries.
const (
	defaultListed  = 100
	defaultFound   = 10
	defaultQueried = 20
	defaultChanges = 100
)

// inPhext is an argument of nearly all tools.
type inPhext struct {
	Phext string `json:"phext,omitempty" jsonschema:"name of the phext; without it, the unnamed phext"`
}

// scroll are the arguments that name one scroll.
type scroll struct {
	inPhext
	Coordinate string `json:"coordinate" jsonschema:"coordinate of the scroll, such as 1.1.1/1.1.1/1.1.1, or its name, such as notes.today.1"`
}

func (s scroll) query() url.Values {
	return url.Values{"p": {s.Phext}, "c": {s.Coordinate}}
}

type readArgs struct {
	scroll
	Offset int `json:"offset,omitempty" jsonschema:"byte to begin at; default 0"`
	Limit  int `json:"limit,omitempty" jsonschema:"most bytes of the answer; default 32768, at most 65536"`
}

type writeArgs struct {
	scroll
	Content string `json:"content" jsonschema:"the text"`
	IfMatch string `json:"if_match,omitempty" jsonschema:"ETag from read: write only if the scroll is still the same"`
}

type appendArgs struct {
	scroll
	Content string `json:"content" jsonschema:"the text to add, with a line break in front of it if it needs one"`
}

type deleteArgs struct {
	scroll
	IfMatch string `json:"if_match,omitempty" jsonschema:"ETag from read: delete only if the scroll is still the same"`
}

type listArgs struct {
	Phext  string `json:"phext,omitempty" jsonschema:"name of the phext, or * for all; without it, the unnamed phext"`
	Prefix string `json:"prefix,omitempty" jsonschema:"only scrolls below this beginning of a coordinate or a name, such as 1.1 or notes.today"`
	Limit  int    `json:"limit,omitempty" jsonschema:"most scrolls of a page; default 100"`
	Page   int    `json:"page,omitempty" jsonschema:"page of the answer; default 1"`
}

type searchArgs struct {
	Query  string `json:"query" jsonschema:"words that a scroll must have, all of them; quotes keep words together"`
	Phext  string `json:"phext,omitempty" jsonschema:"name of the phext, or * for all; without it, the unnamed phext"`
	Prefix string `json:"prefix,omitempty" jsonschema:"only scrolls below this beginning of a coordinate or a name"`
	Limit  int    `json:"limit,omitempty" jsonschema:"most scrolls of a page; default 10, at most 100"`
	Page   int    `json:"page,omitempty" jsonschema:"page of the answer; default 1"`
}

type queryArgs struct {
	inPhext
	From        string   `json:"from,omitempty" jsonschema:"first coordinate of a range; needs to"`
	To          string   `json:"to,omitempty" jsonschema:"last coordinate of a range, which belongs to it"`
	Coordinates []string `json:"coordinates,omitempty" jsonschema:"these coordinates, instead of a range or beside it"`
	Limit       int      `json:"limit,omitempty" jsonschema:"most scrolls; default 20"`
}

type historyArgs struct {
	Phext      string `json:"phext,omitempty" jsonschema:"name of the phext; without it, or with *, all"`
	Coordinate string `json:"coordinate,omitempty" jsonschema:"only changes of this scroll; needs phext"`
	After      string `json:"after,omitempty" jsonschema:"only later changes: a time such as 2026-01-31T15:04:05Z, or a duration back from now such as 2h or 7d"`
	Limit      int    `json:"limit,omitempty" jsonschema:"most changes; default 100"`
}

// request is what a tool asks the API.
type request struct {
	method, op string
	query      url.Values
	body       string
	ifMatch    string // an ETag, or ""
	part       *part  // of the scroll that is the answer; nil = it is no scroll
}

// part is the part of a scroll that is asked for, in bytes.
type part struct{ skip, most int }

// addTools adds the tools that an access allows.
func addTools(s *sdk.Server, access rewrite.Access) {
	add(s, reads("read", "Read a scroll", "Reads the text of one scroll. A long one comes in parts: read on with offset."), func(a readArgs) request {
		p := part{max(0, a.Offset), defaultText}
		if a.Limit > 0 {
			p.most = min(max(a.Limit, utf8.UTFMax), mostText)
		}
		return request{method: http.MethodGet, op: "select", query: a.query(), part: &p}
	})
	add(s, reads("list", "List scrolls", "Lists the coordinates of scrolls and their sizes in bytes, in order. total says how many there are; page gets more."), func(a listArgs) request {
		query := page(a.Limit, defaultListed, a.Page)
		query.Set("p", a.Phext)
		op := "list"
		if prefix := strings.Trim(a.Prefix, "/"); prefix != "" {
			op += "/" + prefix
		}
		return request{method: http.MethodGet, op: op, query: query}
	})
	add(s, reads("search", "Search scrolls", "Finds scrolls that have all words, in upper or lower case, the best first, each with a snippet."), func(a searchArgs) request {
		query := page(a.Limit, defaultFound, a.Page)
		query.Set("q", a.Query)
		query.Set("p", a.Phext)
		if a.Prefix != "" {
			query.Set("namespace", a.Prefix)
		}
		return request{method: http.MethodGet, op: "search", query: query}
	})
	add(s, reads("query", "Read several scrolls", "Reads the scrolls of a range of coordinates, or those at some coordinates, with their texts."), func(a queryArgs) request {
		query := url.Values{"p": {a.Phext}, "from": {a.From}, "to": {a.To}, "limit": {number(a.Limit, defaultQueried)}}
		return request{method: http.MethodPost, op: "query", query: query, body: strings.Join(a.Coordinates, "\n")}
	})
	add(s, reads("history", "What was changed", "Lists what was done to phexts and when, oldest first. Use after to see the last ones."), func(a historyArgs) request {
		query := url.Values{"limit": {number(a.Limit, defaultChanges)}}
		for name, value := range map[string]string{"p": a.Phext, "c": a.Coordinate, "after": a.After} {
			if value != "" {
				query.Set(name, value)
			}
		}
		return request{method: http.MethodGet, op: "history", query: query}
	})
	if access < rewrite.AppendAccess {
		return
	}
	more := changes("append", "Append to a scroll", "Adds text at the end of a scroll, exactly as it is. Where there is no scroll, it makes one.")
	more.Annotations.DestructiveHint = new(bool)
	add(s, more, func(a appendArgs) request {
		return request{method: http.MethodPost, op: "insert", query: a.query(), body: a.Content}
	})
	put := changes("write", "Write a scroll", "Stores text as a scroll. It replaces the text that is there: read it first, and give its ETag as if_match, to lose nothing.")
	put.Annotations.IdempotentHint = true
	if access < rewrite.WriteAccess {
		put.Description = "Stores text as a new scroll. This key cannot replace one that is there."
		put.Annotations.DestructiveHint = new(bool)
	}
	add(s, put, func(a writeArgs) request {
		return request{method: http.MethodPost, op: "update", query: a.query(), body: a.Content, ifMatch: a.IfMatch}
	})
	if access < rewrite.WriteAccess {
		return
	}
	remove := changes("delete", "Delete a scroll", "Removes a scroll. Scrolls at other coordinates stay where they are.")
	remove.Annotations.IdempotentHint = true
	add(s, remove, func(a deleteArgs) request {
		return request{method: http.MethodDelete, op: "delete", query: a.query(), ifMatch: a.IfMatch}
	})
}

// reads is a tool that changes nothing.
func reads(name, title, description string) *sdk.Tool {
	t := changes(name, title, description)
	t.Annotations.ReadOnlyHint, t.Annotations.IdempotentHint = true, true
	return t
}

func changes(name, title, description string) *sdk.Tool {
	return &sdk.Tool{Name: name, Title: title, Description: description, Annotations: &sdk.ToolAnnotations{Title: title, OpenWorldHint: new(bool)}}
}

func page(limit, otherwise, page int) url.Values {
	return url.Values{"limit": {number(limit, otherwise)}, "page": {number(page, 1)}}
}

// number is n as a parameter. 0 was not given; what is wrong otherwise, the API refuses.
func number(n, otherwise int) string {
	if n == 0 {
		n = otherwise
	}
	return strconv.Itoa(n)
}

// add adds a tool that makes a request of its arguments.
func add[Args any](s *sdk.Server, tool *sdk.Tool, toRequest func(Args) request) {
	sdk.AddTool(s, tool, func(ctx context.Context, _ *sdk.CallToolRequest, args Args) (*sdk.CallToolResult, any, error) {
		putBack(reflect.ValueOf(&args).Elem(), messageOf(ctx).long)
		result, err := toRequest(args).send(ctx)
		return result, nil, err
	})
}

// putBack puts the texts into the places of their names in the arguments of a tool.
func putBack(args reflect.Value, long *rewrite.LongTexts) {
	switch args.Kind() {
	case reflect.String:
		args.SetString(long.Text(args.String()))
	case reflect.Struct:
		for i := range args.NumField() {
			putBack(args.Field(i), long)
		}
	case reflect.Slice:
		for i := range args.Len() {
			putBack(args.Index(i), long)
		}
	}
}

// send has the API answer the request. An error is for the model to read.
func (q request) send(ctx context.Context) (*sdk.CallToolResult, error) {
	long := messageOf(ctx).long
	r, err := http.NewRequestWithContext(ctx, q.method, "/", strings.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	r.URL = &url.URL{Path: q.op, RawQuery: q.query.Encode()}
	r.Header.Set("Content-Length", strconv.Itoa(len(q.body))) // an empty text is one too
	if q.ifMatch != "" {
		if strings.ContainsFunc(q.ifMatch, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return nil, errors.New("if_match is no ETag: give it as read tells it")
		}
		r.Header.Set("If-Match", `"`+strings.Trim(q.ifMatch, `"`)+`"`) // models lose quotes
	}
	a := newAnswer(0, mostText)
	if q.part != nil {
		a.skip, a.most = q.part.skip, q.part.most
	}
	messageOf(ctx).api.ServeHTTP(a, r)
	switch {
	case a.Status >= http.StatusBadRequest:
		return nil, a.refusal()
	case q.part != nil:
		return a.scroll(long)
	case !q.query.Has("c"):
		a.header.Del("ETag") // it is not a scroll's
	}
	return a.result(long, "this is only a part: ask for less at once, with a smaller limit"), nil
}

// refusal is the error that the API has answered, in its words.
func (a *Answer) refusal() error {
	var e struct{ Error, Code string }
	text := string(a.Body)
	if json.Unmarshal(a.Body, &e) == nil && e.Error != "" {
		text = fmt.Sprintf("%s (%d %s)", e.Error, a.Status, e.Code)
	}
	if after := a.header.Get("Retry-After"); after != "" {
		text += "; try again in " + after + " s"
	}
	return errors.New(text)
}

// scroll is the result for a part of a scroll, in whole characters.
func (a *Answer) scroll(long *rewrite.LongTexts) (*sdk.CallToolResult, error) {
	switch {
	case a.Size == 0:
		return nil, errors.New("there is no scroll at this coordinate")
	case a.skip >= a.Size:
		return nil, fmt.Errorf("the scroll has only %d bytes", a.Size)
	}
	for a.skip > 0 && len(a.Body) > 0 && !utf8.RuneStart(a.Body[0]) {
		a.Body, a.skip = a.Body[1:], a.skip+1
	}
	if a.skip+len(a.Body) < a.Size {
		for range utf8.UTFMax - 1 {
			if r, n := utf8.DecodeLastRune(a.Body); r == utf8.RuneError && n == 1 {
				a.Body = a.Body[:len(a.Body)-1]
			}
		}
	}
	return a.result(long, fmt.Sprintf("read on with offset %d", a.skip+len(a.Body))), nil
}

// result is the part, and behind it what is to be known of it. more is said if there is more.
func (a *Answer) result(long *rewrite.LongTexts, more string) *sdk.CallToolResult {
	var notes []string
	if end := a.skip + len(a.Body); a.skip > 0 || end < a.Size {
		notes = append(notes, fmt.Sprintf("bytes %d to %d of %d", a.skip, end, a.Size))
		if end < a.Size {
			notes = append(notes, more)
		}
	}
	if tag := a.header.Get("ETag"); tag != "" {
		notes = append(notes, "ETag "+strings.Trim(tag, `"`))
	}
	r := &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: long.Keep(string(a.Body))}}}
	if notes != nil {
		r.Content = append(r.Content, &sdk.TextContent{Text: strings.Join(notes, "; ")})
	}
	return r
}
