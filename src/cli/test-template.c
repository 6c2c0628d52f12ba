/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <string.h>

static const char document[] =
	"{\"Id\":\"abc\",\"Name\":\"/web\",\"N\":3,\"Big\":18446744073709551615,\"F\":1.5,"
	"\"Yes\":true,\"No\":false,\"Nil\":null,\"Empty\":\"\",\"List\":[\"a\",\"b\",\"c\"],"
	"\"Map\":{\"x\":\"1\",\"a b\":\"2\"},\"State\":{\"Status\":\"running\",\"Pid\":7},"
	"\"Nets\":{\"z\":{\"IP\":\"2\"},\"b\":{\"IP\":\"1\"}},\"Label\":{\"k\":\"v\"}}";

static void check(const char *text, const char *expect)
{
	autojson struct json *j = json_parse(document, strlen(document), 65536, NULL);
	autoerror struct error err = ERROR_INIT;
	autotemplate struct template *t = template_parse(text, &err);
	autobuf struct buf out = BUF_INIT(TEMPLATE_OUTPUT_MAX);

	if (!t)
		fail_msg("%s: %s", text, error_msg(&err));
	if (template_execute(t, j, NULL, &out, &err) < 0)
		fail_msg("%s: %s", text, error_msg(&err));
	assert_string_equal(out.data, expect);
}

static void refused(const char *text, const char *reason)
{
	autojson struct json *j = json_parse(document, strlen(document), 65536, NULL);
	autoerror struct error err = ERROR_INIT;
	autotemplate struct template *t = template_parse(text, &err);
	autobuf struct buf out = BUF_INIT(TEMPLATE_OUTPUT_MAX);

	if (t)
		assert_int_equal(template_execute(t, j, NULL, &out, &err), -1);
	if (!strstr(error_msg(&err), reason))
		fail_msg("%s: '%s' has no '%s'", text, error_msg(&err), reason);
}

static void test_values(void **state)
{
	check("plain", "plain");
	check("{{.Id}}-{{ .Name }}", "abc-/web");
	check("{{.ID}}", "abc");
	check("{{.State.Status}} {{.State.Pid}}", "running 7");
	check("{{.N}} {{.Big}} {{.F}} {{.Yes}} {{.Nil}}",
	      "3 18446744073709551615 1.5 true <no value>");
	check("{{.List}} {{.Map}}", "[a b c] map[a b:2 x:1]");
	check("{{\"a\\tb\"}}{{`c`}}{{5}}{{true}}", "a\tbc5true");
	check("a {{- .Id -}} b", "aabcb");
	check("{{/* nothing */}}x", "x");
}

static void test_functions(void **state)
{
	check("{{json .List}}", "[\"a\",\"b\",\"c\"]");
	check("{{json .Nil}}", "null");
	check("{{json .State.Status}}", "\"running\"");
	check("{{index .List 1}} {{index .Map \"a b\"}} {{index .Nets \"b\" \"IP\"}}", "b 2 1");
	check("[{{index .Map \"none\"}}]", "[]");
	check("{{len .List}} {{len .Map}} {{len .Name}}", "3 2 4");
	check("{{join .List \", \"}}", "a, b, c");
	check("{{range split \"x,y\" \",\"}}<{{.}}>{{end}}", "<x><y>");
	check("{{upper .Id}} {{lower \"AB\"}} {{title \"foo bar\"}}", "ABC ab Foo Bar");
	check("{{truncate .Id 2}} {{pad .Id 1 2}}|", "ab  abc  |");
	check("{{printf \"%s=%d|%5s|%-5s|%q|%v|%05d|%x|%.2f|%%\" .Id .N .Id .Id .Id .Yes .N 255 "
	      ".F}}",
	      "abc=3|  abc|abc  |\"abc\"|true|00003|ff|1.50|%");
	check("{{printf \"%d\"}}", "%!d(MISSING)");
	check("{{print 1 2}} {{print \"a\" \"b\"}} {{println .Id}}", "1 2 ab abc\n");
	check("{{slice .Id 1}} {{slice .Id 0 2}}", "bc ab");
	check("{{.Name | printf \"%s!\" | upper}}", "/WEB!");
	check("{{(index .Nets \"z\").IP}}", "2");
	check("{{.Label \"k\"}}[{{.Label \"none\"}}]", "v[]");
}

static void test_control(void **state)
{
	check("{{if .Yes}}y{{else}}n{{end}}", "y");
	check("{{if .Empty}}y{{else if .N}}m{{else}}n{{end}}", "m");
	check("{{if .Absent.Deep}}y{{else}}n{{end}}", "n");
	check("{{if and .Yes .N}}y{{end}}{{if or .No .Empty}}n{{end}}{{if not .No}}z{{end}}", "yz");
	check("{{if eq .N 3}}a{{end}}{{if eq .Id \"x\" \"abc\"}}b{{end}}{{if ne .Id "
	      "\"x\"}}c{{end}}",
	      "abc");
	check("{{if lt .N 4}}a{{end}}{{if ge .F 1.5}}b{{end}}{{if gt 2 10}}c{{end}}", "ab");
	check("{{range .List}}{{.}},{{end}}", "a,b,c,");
	check("{{range $i, $v := .List}}{{$i}}={{$v}} {{end}}", "0=a 1=b 2=c ");
	check("{{range $k, $v := .Nets}}{{$k}}:{{$v.IP}} {{$.Id}};{{end}}", "b:1 abc;z:2 abc;");
	check("{{range .Nil}}x{{else}}none{{end}}", "none");
	check("{{with .State}}{{.Status}}{{else}}-{{end}}", "running");
	check("{{with .Absent}}x{{else}}-{{end}}", "-");
	check("{{$x := .Id}}{{range .List}}{{$x}}{{end}}", "abcabcabc");
	check("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2");
}

static void test_errors(void **state)
{
	refused("{{.Nope}}", "map has no entry for key \"Nope\"");
	refused("{{.Id.Nope}}", "can't evaluate field");
	refused("{{.Id", "unclosed action");
	refused("{{nope .}}", "function \"nope\" not defined");
	refused("{{if .Id}}", "unexpected EOF");
	refused("{{end}}", "unexpected {{end}}");
	refused("{{else}}", "unexpected {{else}}");
	refused("{{}}", "missing value for command");
	refused("{{\"abc}}", "unclosed action");
	refused("{{$nope}}", "undefined variable");
	refused("{{index .List 9}}", "out of range");
	refused("{{index .Id 0}}", "can't index");
	refused("{{len .N}}", "wrong type");
	refused("{{json}}", "wrong number of args");
	refused("{{slice .Id 2 1}}", "out of range");
	refused("{{.Id \"x\"}}", "can't give argument");
	refused("{{upper .Id .Id}}", "wrong number of args");
}

static void test_depth_and_steps(void **state)
{
	autobuf struct buf b = BUF_INIT(BUF_NO_LIMIT);

	for (int i = 0; i < 200; i++)
		buf_puts(&b, "{{if true}}");
	refused(b.data, "nested too deep");
	buf_clear(&b);
	buf_puts(&b, "{{");
	for (int i = 0; i < 200; i++)
		buf_putc(&b, '(');
	buf_puts(&b, "}}");
	refused(b.data, "nested too deep");
	buf_clear(&b);
	for (int i = 0; i < 14; i++)
		buf_puts(&b, "{{range $.List}}");
	for (int i = 0; i < 14; i++)
		buf_puts(&b, "{{end}}");
	refused(b.data, "runs too long");
}

static void test_header(void **state)
{
	autojson struct json *j = json_new_object();
	autotemplate struct template *t =
		template_parse("{{upper .ID}}|{{truncate .ID 2}}|{{json .ID}}", NULL);
	autobuf struct buf out = BUF_INIT(1000);

	json_set_string(j, "ID", "Image Id");
	assert_int_equal(template_execute_header(t, j, &out, NULL), 0);
	assert_string_equal(out.data, "Image Id|Image Id|Image Id");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),	cmocka_unit_test(test_functions),
		cmocka_unit_test(test_control), cmocka_unit_test(test_errors),
		cmocka_unit_test(test_header),	cmocka_unit_test(test_depth_and_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
