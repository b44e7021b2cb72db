package cache

import "mirrorborn.us/sqgate/phext"

// PartOf is a version with some of the scrolls of another one, which it keeps in memory:
// scrolls are parts of its text. It is in no file, and has no identity.
func PartOf(whole *Version, p *phext.Phext) *Version {
	return &Version{Phext: p, counted: whole.counted, whole: whole}
}

// Whole is the version that this one is a part of; nil = of none.
func (p *Version) Whole() *Version { return p.whole }
