package replica

import (
	"context"
	"crypto/sha256"

	"mirrorborn.us/sqgate/storage/bucket/object"
)

// PutFiles writes the texts of phexts for a checkpoint that is to name them, and returns
// what it is to say of them. One that is there already, and for long enough, is not written
// again. text is called once for each name, and says whether there is such a phext; put is
// called when one is there.
func (l *Log) PutFiles(ctx context.Context, names []string, text func(name string) (t string, exists bool, err error), put func(object.File)) ([]object.File, error) {
	if err := l.housekeeping.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer l.housekeeping.Release(1)
	now, err := l.d.storeTime(ctx)
	if err != nil {
		return nil, err
	}
	fresh := map[string]bool{}
	for e, err := range l.d.list(ctx, "files/", "") {
		if err != nil {
			return nil, err
		}
		fresh[e.Key] = now.Sub(e.Modified) < freshFor/2
	}
	var files []object.File
	for _, name := range names {
		t, exists, err := text(name)
		if err != nil {
			return nil, err
		}
		if !exists {
			continue
		}
		f := object.File{Name: name, Hash: sha256.Sum256([]byte(t)), Size: int64(len(t))}
		if key := l.d.fileKey(f.Hash); !fresh[key] {
			body, _, err := object.EncodeFile([]byte(t))
			if err == nil {
				err = l.d.put(ctx, key, body)
			}
			if err != nil {
				return nil, err
			}
			fresh[key] = true
		}
		files = append(files, f)
		put(f)
	}
	return files, nil
}
