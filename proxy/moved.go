package proxy

import (
	"errors"
	"path/filepath"

	"mirrorborn.us/sqgate/tenants"
)

// Moved is told that the files of a tenant were taken out of its directory, or
// put into it, by somebody who holds it: recovery would take the ones for lost,
// and the others for the traces of a power cut.
func (g *Gateway) Moved(t *tenants.Tenant, files []string) error {
	dir := g.dir(t.DataDir).path
	j, err := g.config.Journal.Of(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		if _, known := j.LastSeen(file); !known {
			continue
		}
		now, e := g.page(filepath.Join(dir, file))
		if e == nil {
			e = noticeEdit(j, file, now)
		}
		err = errors.Join(err, e)
	}
	return errors.Join(err, j.Suspend())
}
