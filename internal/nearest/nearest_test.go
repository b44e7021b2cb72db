package nearest

import "testing"

func TestDidYouMean(t *testing.T) {
	known := []string{"id", "api_key", "api_key_sha256", "path_key", "data_dir", "quota_mb", "enabled", "admin_email", "reads_per_minute", "writes_per_minute", "lists_per_minute", "requests_per_minute"}
	for word, want := range map[string]string{
		"quota": "quota_mb", "Quota_MB": "quota_mb", "quotaMb": "quota_mb", "quota-mb": "quota_mb", "qouta_mb": "quota_mb", "email": "admin_email",
		"datadir": "data_dir", "apikey": "api_key", "api_kee": "api_key", "reads": "reads_per_minute", "read_per_minute": "reads_per_minute", "iid": "id",
		"minute": "", "": "", "x": "", "colour": "", "idx": "id",
	} {
		if want != "" {
			want = ": did you mean --" + want + "?"
		}
		if got := DidYouMean(word, "--", known); got != want {
			t.Errorf("%q%s, want %q", word, got, want)
		}
	}
	if got := DidYouMean("tal", "", []string{"tall", "tale", "nothing"}); got != ": did you mean tall or tale?" {
		t.Errorf("%q", got)
	}
}

func TestMisspells(t *testing.T) {
	for word, want := range map[string]bool{
		"coordinate": true, "coordinates": true, "Coordinate": true, "co-ordinate": true, "coordinat": true, "coordimate": true, "coordiante": true, "ocordinate": true, "coordinaet": true,
		"coord": false, "cordinat": false, "ordinate": false, "": false, "coordiantes": false, "coordinate12": false,
	} {
		if Misspells(word, "coordinate") != want {
			t.Errorf("%q: %v", word, !want)
		}
	}
	for word, want := range map[string]bool{"C": true, "c_": true, "a": false, "cc": false, "": false} {
		if Misspells(word, "c") != want {
			t.Errorf("%q: %v", word, !want)
		}
	}
}
