package main

import "context"

// column is one value that is measured of every sqgate binary.
type column struct {
	name string
	quantity
}

// repeated measures all columns of each binary several times, the binaries in
// turns, and shows them in a table. It returns the values of the sqgate under
// test, one spread for each column.
func (b *bench) repeated(ctx context.Context, times int, cell, title string, columns []column, measure func(context.Context, binary) ([]float64, error)) ([]spread, error) {
	all := map[string][][]float64{}
	for range times {
		for _, of := range b.binaries {
			values, err := measure(ctx, of)
			if err != nil {
				return nil, err
			}
			all[of.name] = append(all[of.name], values)
		}
	}
	head := []string{"side"}
	for _, c := range columns {
		head = append(head, c.name)
	}
	t := newTable(head...)
	var ours []spread
	for _, of := range b.binaries {
		row := []string{of.name}
		for i, c := range columns {
			var values []float64
			for _, v := range all[of.name] {
				values = append(values, v[i])
			}
			s := spreadOf(values)
			row = append(row, c.printed(s))
			b.compare(cell, c.name, c.quantity, of.name, values...)
			if of.name == underTest {
				ours = append(ours, s)
			}
		}
		t.add(row...)
	}
	b.show(title, t)
	return ours, nil
}
