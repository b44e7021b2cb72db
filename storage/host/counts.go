package host

import "sync/atomic"

// counts is how often directories came and went since this process began.
type counts struct{ takeOvers, handOvers atomic.Int64 }

// TakenOver is how many times this host has taken a directory over.
func (ds *Directories) TakenOver() int64 { return ds.counts.takeOvers.Load() }

// Deposed is how many times another host has taken one from this host, which had not given it
// up.
func (ds *Directories) Deposed() int64 { return ds.Dirs.Deposed() }

// HandedOver is how many times this host has given one up on purpose.
func (ds *Directories) HandedOver() int64 { return ds.counts.handOvers.Load() }
