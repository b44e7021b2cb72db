package tenants

import (
	"encoding/json"
	"errors"

	"github.com/pelletier/go-toml/v2"
)

// fromTOML says in JSON what a text says in TOML, so that one reader reads both.
func fromTOML(text []byte) ([]byte, error) {
	if len(text) > largestFile {
		return nil, tooLarge()
	}
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		return nil, tomlError(err)
	}
	return json.Marshal(all)
}

// tomlError leaves out the lines around the mistake, which may hold keys.
func tomlError(err error) error {
	e := &FormatError{Problem: "not TOML", Fix: "correct it"}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		e.Line, e.Column = at.Position()
	}
	return e
}

// fromGateway reads [[tenants]] with token, name, port and phext. Where the
// SQ behind a port keeps its data is not for the gateway to know, nor does it
// hold a tenant to its phext: a tenant's data are all files of its SQ.
func (c *converter) fromGateway(top []field) {
	c.From = "the Python gateway"
	var list []json.RawMessage
	var own json.RawMessage
	if !c.decode(top, map[string]any{"tenants": &list, "gateway": &own}) {
		return
	}
	c.gatewayItself(own)
	for _, raw := range list {
		c.tenantOfGateway(raw)
	}
	c.note("stop the gateway, and the SQ process behind each of its ports, before sqgate serves their directories")
}

func (c *converter) gatewayItself(own json.RawMessage) {
	var port *int64
	var adminKey *string
	list, _ := fieldsOf(own)
	if !c.decode(list, map[string]any{"listen_port": &port, "admin_key": &adminKey}) {
		return
	}
	if port != nil {
		c.note("the gateway listened on port %d: give serve `--listen 127.0.0.1:%d` if clients or a web server are to find it there", *port, *port)
	}
	if adminKey != nil {
		c.note("the gateway's admin_key is not taken over: give it to serve as SQ_ADMIN_KEY if it is to be the management key")
	}
}

func (c *converter) tenantOfGateway(raw json.RawMessage) {
	var e Entry
	var name, phext *string
	var port *int64
	if !c.next(raw, map[string]any{"token": &e.APIKey, "name": &name, "port": &port, "phext": &phext}) {
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
	c.note("tenant %q: move the *.phext files of the SQ on port %d%s to %s; they are in its --data-dir, or else in the directory in which it was started",
		c.id, value(port, 0), which(phext), dir)
}

func which(phext *string) string {
	if phext == nil {
		return ""
	}
	return ", " + *phext + ".phext and the others,"
}
