package systemd

import (
	"fmt"
	"strings"
)

const (
	probeFile   = "/usr/local/bin/sq-probe"
	probeDropIn = "/etc/systemd/system/sq.service.d/probe.conf"
)

// probeScript runs SQ. As the child of tenant second, it first tries what a hijacked
// SQ would try. %s is a word that marks its lines in the journal.
const probeScript = `#!/bin/sh
dir=$SQGATE_DATA_DIR
try() {
  what=$1
  if sh -c "$2" 2>/dev/null; then echo "%[1]s $what: done"; else echo "%[1]s $what: refused"; fi
}
if [ "$1" = host ] && [ "${dir##*/}" = second ]; then
  try own-write ": >$dir/probe.phext && rm $dir/probe.phext"
  try own-read "cat $dir/notes.phext && ls $dir"
  try etc ": >/etc/sq/probe"
  try etc-append ": >>/etc/sq/tenants.json"
  try etc-read "cat /etc/sq/tenants.json >/dev/null"
  try state ": >/var/lib/sqgate/probe"
  try state-key "cat /var/lib/sqgate/admin-key >/dev/null"
  try work-directory ": >probe"
  try outer ": >/var/lib/sq/probe"
  try outer-read "cat /var/lib/sq/notes.phext >/dev/null"
  try third ": >/var/lib/sq/tenants/third/probe"
  try third-read "cat /var/lib/sq/tenants/third/notes.phext >/dev/null"
  try third-list "ls /var/lib/sq/tenants/third >/dev/null"
  try archive ": >/var/lib/sq/archive/probe"
  echo "%[1]s end"
fi
exec /usr/local/bin/sq "$@"
`

// keepsToItself runs the probe without and with confinement, so that it is known to
// be the confinement that refuses an access.
func keepsToItself(m *machine) {
	m.sh("install -d -o sq -g sq -m 700 %s/tenants/third && install -o sq -g sq -m 600 /dev/null %[1]s/tenants/third/notes.phext", data)
	for _, confined := range []bool{false, true} {
		outcomes := m.probe(fmt.Sprintf("probe-%v", confined), confined)
		if len(outcomes) != 14 {
			m.Fatalf("the child has tried %q", outcomes)
		}
		for what, outcome := range outcomes {
			want := "done"
			if confined && !strings.HasPrefix(what, "own-") {
				want = "refused"
			}
			if outcome != want {
				m.Errorf("confined %v: %s is %s", confined, what, outcome)
			}
		}
	}
	log := m.out("journalctl -o cat _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value sq)")
	m.sh("rm -r %s %s %s/tenants/third && systemctl daemon-reload && systemctl restart sq", probeFile, probeDropIn, data)
	m.sh("rm /etc/sq/probe /var/lib/sqgate/probe /var/lib/sqgate/children/probe %[1]s/probe %[1]s/archive/probe", data)
	if !strings.Contains(log, "msg=serving") || strings.Contains(log, "children are not confined") {
		m.Errorf("sqgate itself says: %s", log)
	}
}

// probe starts a child that tries every access, and returns the outcomes.
func (m *machine) probe(word string, confined bool) map[string]string {
	m.Helper()
	m.write(probeFile, fmt.Sprintf(probeScript, word))
	m.write(probeDropIn, fmt.Sprintf("[Service]\nEnvironment=SQGATE_SQ=%s SQGATE_CONFINE=%v\n", probeFile, confined))
	m.sh("chmod 755 %s && systemctl daemon-reload && systemctl restart sq", probeFile)
	m.must(m.secondKey(), "POST", "/api/v2/update?p=notes&c=3.1.1/1.1.1/1.1.1", word, "")
	lines := func() string { return m.out("journalctl -b -u sq -o cat") }
	m.await("the child has tried", func() bool { return strings.Contains(lines(), word+" end") })
	outcomes := map[string]string{}
	for line := range strings.Lines(lines()) {
		_, said, ok := strings.Cut(line, word+" ")
		if what, outcome, found := strings.Cut(strings.TrimSpace(said), ": "); ok && found {
			outcomes[what] = outcome
		}
	}
	return outcomes
}
