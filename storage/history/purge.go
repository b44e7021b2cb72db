package history

import "mirrorborn.us/sqgate/tenants"

// Purge erases the history of a tenant for good. The caller has frozen the
// tenant's directory, and has made sure that no phext of the tenant is in it. The
// journal of a shared directory stays, because it has the history of others, too.
func (s *Service) Purge(t *tenants.Tenant) error {
	if t.SharedDataDir {
		return nil
	}
	return s.Dirs.Journal.Purge(s.Dirs.Of(t.DataDir).Path)
}
