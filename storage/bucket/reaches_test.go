package bucket

import "testing"

func TestReaches(t *testing.T) {
	for _, c := range []struct {
		url, address string
		want         bool
	}{
		{"s3://name/p?endpoint=http://10.0.0.1:9000", "10.0.0.1:9000", true},
		{"s3://name/p?endpoint=http://10.0.0.1:9000", "10.0.0.1:22", false},
		{"s3://name/p?endpoint=http://10.0.0.1:9000", "10.0.0.2:9000", false},
		{"s3://name?endpoint=https://a.r2.cloudflarestorage.com", "a.r2.cloudflarestorage.com:443", true},
		{"s3://name?endpoint=https://a.r2.cloudflarestorage.com", "b.r2.cloudflarestorage.com:443", false},
		{"s3://name?region=eu-central-1", "name.s3.dualstack.eu-central-1.amazonaws.com:443", true},
		{"s3://name?region=eu-central-1", "name.s3.eu-central-1.amazonaws.com:80", false},
		{"s3://name", "amazonaws.com.example.org:443", false},
		{"file:///srv/bucket", "10.0.0.1:9000", false},
		{"", "10.0.0.1:9000", false},
	} {
		if got := Reaches(c.url, c.address); got != c.want {
			t.Errorf("%s reaches %s: %v", c.url, c.address, got)
		}
	}
}
