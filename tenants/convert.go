package tenants

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"mirrorborn.us/sqgate/internal/strictjson"
)

// Conversion is the tenants file of another program in terms of this one.
type Conversion struct {
	From    string   // name of the other program
	Entries []Entry  // in the file's order, with the clients' keys in plain text
	Notes   []string // what was changed; without keys
	Steps   []string // what is left to do before sqgate serves, in this order; without keys
}

// converter reads the entries of another program one by one. It collects
// mistakes as a builder does.
type converter struct {
	builder
	Conversion
	dataRoot string
	ids      map[string]string // id -> description of the tenant that has it
	ports    map[int64]string  // port -> description of the tenant whose SQ listens there
}

// Convert reads the tenants file of SQ's own multi-tenant mode, of the SQ
// router or of the Python gateway; it recognises them by their fields. The
// gateway's file has no data directories: its tenants get some below dataRoot.
//
// Convert is as strict as Parse about fields and has the same types of errors.
// The values of the entries are checked by Create and Check, not here.
func Convert(text []byte, dataRoot string) (*Conversion, error) {
	c := &converter{dataRoot: dataRoot, ids: map[string]string{}, ports: map[int64]string{}}
	err := c.convert(text)
	if err == nil {
		err = errors.Join(c.mistakes...)
	}
	if err != nil {
		return nil, err
	}
	return &c.Conversion, nil
}

func (c *converter) convert(text []byte) (err error) {
	gateway := isTOML(text)
	if gateway {
		if text, err = fromTOML(text); err != nil {
			return err
		}
	}
	top, err := parseObject(text)
	if err != nil {
		return err
	}
	list := tenantsOf(top)
	_, byKey := strictjson.Fields(list)
	switch {
	case gateway:
		c.fromGateway(top)
	case byKey:
		c.fromSQ(top)
	case hasTokens(list):
		c.fromRouter(top)
	default:
		return &FormatError{Problem: "this is none of the tenants files that can be converted",
			Fix: `what is understood is {"tenants": {KEY: {"name", "data_dir"}}} of SQ, {"tenants": [{"token", "port", "data_dir"}]} of the SQ router and [[tenants]] of the Python gateway; one with "id" and "api_key" needs no conversion`}
	}
	return nil
}

func tenantsOf(top []strictjson.Field) json.RawMessage {
	for _, f := range top {
		if f.Name == "tenants" {
			return f.Value
		}
	}
	return nil
}

// fromSQ reads {"tenants": {KEY: {"name", "data_dir"}}}.
func (c *converter) fromSQ(top []strictjson.Field) {
	c.From = "SQ's own multi-tenant mode"
	var all json.RawMessage
	if !c.decode(top, map[string]any{"tenants": &all}) {
		return
	}
	list, _ := strictjson.Fields(all)
	for _, f := range list {
		var name *string
		e := Entry{APIKey: &f.Name}
		if c.decodeEntry(f.Value, map[string]any{"name": &name, "data_dir": &e.DataDir}) {
			c.add(e, "name", name)
		}
	}
	if len(list) > 0 {
		c.step("stop the SQ that serves these directories")
	}
}

// fromRouter reads {"tenants": [{"token", "port", "data_dir"}]}. The router's
// tenants have no names and get the last part of the directory. An operator can
// add a "name", which the router ignores.
func (c *converter) fromRouter(top []strictjson.Field) {
	c.From = "the SQ router"
	var list []json.RawMessage
	if !c.decode(top, map[string]any{"tenants": &list}) {
		return
	}
	for _, raw := range list {
		var e Entry
		var name *string
		var port *int64
		if !c.decodeEntry(raw, map[string]any{"token": &e.APIKey, "port": &port, "data_dir": &e.DataDir, "name": &name}) {
			continue
		}
		c.claimPort(port)
		if name == nil && e.DataDir != nil {
			last := filepath.Base(*e.DataDir)
			c.add(e, "data_dir", &last)
			continue
		}
		c.add(e, "name", name)
	}
	if len(list) > 0 {
		c.step("stop the router, and the SQ process behind each of its ports")
	}
}

// decodeEntry decodes the next entry and reports whether its form is right.
func (c *converter) decodeEntry(raw json.RawMessage, targets map[string]any) bool {
	c.index, c.id = c.index+1, ""
	list, isObject := strictjson.Fields(raw)
	if !isObject {
		c.refuse("tenants", "has something here that is not a tenant", "remove it")
		return false
	}
	return c.decode(list, targets)
}

func (c *converter) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

func (c *converter) step(format string, args ...any) {
	c.Steps = append(c.Steps, fmt.Sprintf(format, args...))
}

// add adds an entry with an id made from name, which is the value of field.
func (c *converter) add(e Entry, field string, name *string) {
	if name == nil {
		c.refuse(field, "is missing", "give the tenant a name")
		return
	}
	id := idOf(*name)
	switch other, taken := c.ids[id]; {
	case checkID(id) != nil:
		c.refuse(field, "cannot be made an id", "give the tenant a \"name\" of letters and digits that is not a key")
		return
	case taken:
		c.refuse(field, fmt.Sprintf("gives the id %q, which %s gets too", id, other), "give one of them another \"name\"")
		return
	}
	c.id, c.ids[id] = id, describeTenant("", c.index)
	if id != *name {
		c.note("tenant number %d, %q, has the id %q now", c.index, *name, id)
	}
	if e.DataDir != nil && !filepath.IsAbs(*e.DataDir) {
		c.refuse("data_dir", "is a relative path", "write the whole path, beginning with /: it counts from the directory in which SQ was started")
	}
	e.ID = &id
	c.Entries = append(c.Entries, e)
}

// claimPort refuses a second tenant with the same port: both have one SQ and
// its data.
func (c *converter) claimPort(port *int64) {
	if port == nil {
		return
	}
	if other, taken := c.ports[*port]; taken {
		c.refuse("port", "is that of "+other+" too, so that both have the same data", "keep one of them, or give the other its own SQ first")
		return
	}
	c.ports[*port] = describeTenant("", c.index)
}

// idOf makes an id from a name: in lower case, with '-' for characters that an
// id must not have. The result may still be invalid.
func idOf(name string) string {
	parts := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '-' || notInID(r) })
	id := strings.Join(parts, "-")
	for _, word := range reserved {
		if id == word {
			return "tenant-" + id
		}
	}
	return id
}

// fromTOML translates TOML to JSON, so that one parser reads both.
func fromTOML(text []byte) ([]byte, error) {
	if len(text) > maxFileSize {
		return nil, tooLarge()
	}
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		return nil, tomlError(err)
	}
	return json.Marshal(all)
}

// tomlError leaves out the text around the mistake, which may have keys in it.
func tomlError(err error) error {
	e := &FormatError{Problem: "not TOML", Fix: "correct it"}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		e.Line, e.Column = at.Position()
	}
	return e
}

// fromGateway reads [[tenants]] with token, name, port and phext. The file does
// not say where the SQ behind a port keeps its data. The gateway does not
// restrict a tenant to its phext, so all files of that SQ are the tenant's.
func (c *converter) fromGateway(top []strictjson.Field) {
	c.From = "the Python gateway"
	var list []json.RawMessage
	var own json.RawMessage
	if !c.decode(top, map[string]any{"tenants": &list, "gateway": &own}) {
		return
	}
	c.step("stop the gateway, and the SQ process behind each of its ports")
	for _, raw := range list {
		c.gatewayTenant(raw)
	}
	c.gatewaySettings(own)
}

func (c *converter) gatewaySettings(own json.RawMessage) {
	var port *int64
	var adminKey *string
	list, _ := strictjson.Fields(own)
	if !c.decode(list, map[string]any{"listen_port": &port, "admin_key": &adminKey}) {
		return
	}
	if port != nil {
		c.step("the gateway listened on port %d: give serve `--listen 127.0.0.1:%d` if clients or a web server are to find it there", *port, *port)
	}
	if adminKey != nil {
		c.step("the gateway's admin_key is not taken over: give it to serve as SQ_ADMIN_KEY if it is to be the management key")
	}
}

func (c *converter) gatewayTenant(raw json.RawMessage) {
	var e Entry
	var name, phext *string
	var port *int64
	if !c.decodeEntry(raw, map[string]any{"token": &e.APIKey, "name": &name, "port": &port, "phext": &phext}) {
		return
	}
	c.claimPort(port)
	before := len(c.Entries)
	c.add(e, "name", name)
	if len(c.Entries) == before {
		return
	}
	dir := c.dataRoot + "/" + c.id
	c.Entries[before].DataDir = &dir
	c.step("tenant %q: move the *.phext files of the SQ on port %d%s to %s; they are in its --data-dir, or else in the directory in which it was started",
		c.id, valueOr(port, 0), fileHint(phext), dir)
}

func fileHint(phext *string) string {
	if phext == nil {
		return ""
	}
	return ", " + *phext + ".phext and the others,"
}
