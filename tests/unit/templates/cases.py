"""Templates with variables and the output for HTML, by area. handlebars.js agrees with every one."""

HTML = "<a href='x'>&`\"=</a>"
SHOP = {
    "name": "Ann",
    "user": {"email": "a@b.c", "first": "Ann", "tags": ["x", "y"]},
    "items": [{"name": "tea", "price": 3.5}, {"name": "rum", "price": 12.0}],
    "words": ["a", "b", "c"],
    "empty": [],
    "zero": 0,
    "no": False,
    "yes": True,
    "blank": "",
    "null": None,
    "nested": [[1, 2], [3]],
    "ages": {"ann": 1, "bob": 2},
    "html": HTML,
}

BASIC = [
    ("", ""),
    ("plain } text { {", "plain } text { {"),
    ("Hi {{name}}!", "Hi Ann!"),
    ("{{ name }}{{\n name\n}}", "AnnAnn"),
    ("{{html}}", "&lt;a href&#x3D;&#x27;x&#x27;&gt;&amp;&#x60;&quot;&#x3D;&lt;/a&gt;"),
    ("{{{html}}}", HTML),
    ("{{&html}}", HTML),
    ("{{user.email}} {{user/first}} {{this.user.first}} {{./name}}", "a@b.c Ann Ann Ann"),
    ("{{user.tags.[1]}}{{words.[0]}}{{words.[9]}}{{name.[0]}}", "yaA"),
    ("{{words.length}}{{name.length}}{{blank.length}}", "330"),
    ("{{missing}}{{missing.deep.er}}{{name.first}}{{null}}{{user.[no such]}}", ""),
    ("{{zero}} {{no}} {{yes}} {{blank}}", "0 false true "),
    ("{{items.[0].price}} {{items.[1].price}}", "3.5 12"),
    ("{{words}} {{nested}} {{empty}} {{user.tags}}", "a,b,c 1,2,3  x,y"),
    ("{{user}}", "[object Object]"),
    ("{{! nothing }}{{!-- }} nothing {{x}} --}}{{!}}{{!--}}.", "."),
    ("\\{{name}} \\\\{{name}} \\x", "{{name}} \\Ann \\x"),
    ("\\{{name}}\\{{name}}", "{{name}}{{name}}"),
    ("{{'name'}}{{\"name\"}}{{[name]}}{{12}}", "AnnAnnAnn"),
]

BLOCKS = [
    ("{{#if name}}y{{else}}n{{/if}}", "y"),
    ("{{#if missing}}y{{/if}}{{#if no}}y{{else}}n{{/if}}{{#if null}}{{^}}n{{/if}}", "nn"),
    ("{{#if zero}}y{{else}}n{{/if}}{{#if zero includeZero=true}}y{{/if}}{{#if no includeZero=true}}y{{/if}}", "ny"),
    ("{{#if blank}}y{{else}}n{{/if}}{{#if empty}}y{{else}}n{{/if}}{{#if ages}}y{{/if}}", "nny"),
    ("{{#if no}}1{{else if zero}}2{{else if name}}3{{else}}4{{/if}}", "3"),
    ("{{#if no}}1{{else each words}}{{this}}{{else}}4{{/if}}", "abc"),
    ("{{#unless no}}y{{else}}n{{/unless}}{{#unless name}}y{{else}}n{{/unless}}", "yn"),
    ("{{#with user}}{{first}} {{email}} {{../name}}{{/with}}", "Ann a@b.c Ann"),
    ("{{#with missing}}y{{else}}n{{/with}}{{#with zero}}{{this}}{{/with}}", "n0"),
    ("{{#with user as |u|}}{{u.email}}{{/with}}", "a@b.c"),
    (
        "{{#each words}}{{this}}{{.}};{{/each}}{{#each empty}}y{{else}}n{{/each}}{{#each name}}y{{else}}n{{/each}}",
        "aa;bb;cc;nn",
    ),
    ("{{#each items}}{{name}} {{price}} {{../name}};{{/each}}", "tea 3.5 Ann;rum 12 Ann;"),
    (
        "{{#each items as |item i|}}{{i}}{{item.name}}{{#with ../user}}{{item.name}}{{../price}}{{/with}}{{/each}}",
        "0teatea3.51rumrum12",
    ),
    ("{{#each nested as |row|}}{{#each row as |cell|}}{{cell}}/{{row.length}} {{/each}}{{/each}}", "1/2 2/2 3/1 "),
    ("{{#user}}{{first}}{{/user}}{{#words}}{{.}}{{/words}}{{#yes}}{{name}}{{/yes}}{{#no}}x{{/no}}", "AnnabcAnn"),
    ("{{#zero}}{{this}}{{/zero}}{{#blank}}y{{/blank}}{{#null}}y{{else}}n{{/null}}", "0yn"),
    (
        "{{^missing}}none{{/missing}}{{^words}}none{{else}}some{{/words}}{{^empty}}none{{/empty}}",
        "nonesomesomesomenone",
    ),
    ("{{#words as |w i|}}{{i}}{{w}}{{/words}}", "0a1b2c"),
    ("{{#each words}}{{#if this}}{{../name}}{{/if}}{{/each}}", "AnnAnnAnn"),
    ("{{#with this}}{{../name}}{{name}}{{/with}}", "Ann"),
]

DATA = [
    ("{{#each words}}{{@index}}{{@key}}{{@first}}{{@last}} {{/each}}", "00truefalse 11falsefalse 22falsetrue "),
    ("{{#each ages}}{{@key}}={{this}}{{#unless @last}},{{/unless}}{{/each}}", "ann=1,bob=2"),
    ("{{#each nested}}{{#each this}}{{@../index}}{{@index}} {{/each}}{{/each}}", "00 01 10 "),
    ("{{#each words}}{{@root.name}}{{/each}}{{@root.user.first}}{{@index}}{{@nothing}}", "AnnAnnAnnAnn"),
]

HELPERS = [
    ("{{uppercase name}}{{lowercase name}}{{capitalize 'été'}}{{capitalize blank}}{{uppercase missing}}", "ANNannÉté"),
    ("{{uppercase html}}", "&lt;A HREF&#x3D;&#x27;X&#x27;&gt;&amp;&#x60;&quot;&#x3D;&lt;/A&gt;"),
    ("{{default name 'x'}} {{default missing 'x'}} {{default blank name}} {{default zero 1}} {{default no 1}}",
     "Ann x Ann 0 1"),
    ("{{formatDate '2026-03-07T23:30:00Z' 'YYYY-MM-DD'}} {{formatDate '2026-03-07' 'MM/DD/YYYY'}}",
     "2026-03-07 03/07/2026"),
    ("{{formatDate 1774569600000 'YYYY-MM-DD'}} {{formatDate 'soon' 'YYYY'}}{{formatDate '2026-03-27#Z' 'YYYY'}}",
     "2026-03-27 soon2026-03-27#Z"),
    ("{{#ifEquals name 'Ann'}}y{{else}}n{{/ifEquals}}{{#ifNotEquals name 'Ann'}}y{{else}}n{{/ifNotEquals}}", "yn"),
    ("{{#ifEquals zero '0'}}y{{/ifEquals}}{{#ifEquals missing null}}y{{/ifEquals}}{{#ifEquals no null}}y{{/ifEquals}}",
     "yy"),
    ("{{#ifEquals yes 1}}y{{/ifEquals}}{{#ifEquals ' 12 ' 12}}y{{/ifEquals}}{{#ifEquals 'x' 0}}y{{/ifEquals}}", "yy"),
    ("{{lookup user 'email'}}{{lookup words 1}}{{lookup ages name}}{{lookup zero 'x'}}{{lookup gone 'x'}}", "a@b.cb0"),
    ("{{uppercase (default missing (lowercase 'ABC'))}}", "ABC"),
    ("{{#each (lookup user 'tags')}}{{.}}{{/each}}", "xy"),
    ("{{#each words as |uppercase|}}{{uppercase}}{{/each}}{{this.uppercase}}", "abc"),
    ("{{uppercase \"a\\\"b\"}}{{uppercase 'a\\'b'}}{{uppercase 'a\"b'}}", "A&quot;BA&#x27;BA&quot;B"),
    ("{{uppercase 1.50}}{{uppercase true}}{{uppercase null}}{{uppercase undefined}}", "1.5TRUE"),
]  # fmt: skip

WHITESPACE = [
    ("a {{~name~}} b", "aAnnb"),
    ("a {{~{name}~}} b {{~&name~}} c", "aAnnbAnnc"),
    ("a\n {{~#if name~}} \n y \n {{~else~}} n {{~/if~}} \n b", "ayb"),
    ("a\n  {{#if name}}\n  y\n  {{/if}}\nb", "a\n  y\nb"),
    ("a\n{{#if no}}\n y\n{{else}}\n n\n{{/if}}\nb", "a\n n\nb"),
    ("{{#if no}}\n y\n{{else if yes}}\n z\n{{/if}}\n", " z\n"),
    ("  {{! note }}  \nb", "b"),
    ("a\n  {{!-- note --}}\nb", "a\nb"),
    ("a {{! note }}\nb", "a \nb"),
    ("a\r\n{{#each words}}\r\n{{.}}\r\n{{/each}}\r\nb", "a\r\na\r\nb\r\nc\r\nb"),
    ("a\n  {{^missing}}\n  none\n  {{/missing}}\nb", "a\n  none\nb"),
    ("a\n{{^words}}\nnone\n{{else}}\nsome\n{{/words}}\nb", "a\nsome\nsome\nsome\nb"),
    ("a\n{{^missing}}\nnone\n{{^}}\nsome\n{{/missing}}\nb", "a\nnone\nb"),
    ("  {{name}}  \n", "  Ann  \n"),
    ("{{#if name}} y {{/if}}\n", " y \n"),
    ("\u00a0{{~name}}", "Ann"),
    ("\x1c{{~name}}", "\x1cAnn"),
]

SECURITY = [
    ("{{constructor}}{{__proto__}}{{user.constructor}}{{name.constructor}}{{words.__proto__}}{{toString}}", ""),
    ("{{lookup user 'constructor'}}{{lookup name '__proto__'}}{{lookup this '__class__'}}", ""),
    ("{{__class__}}{{name.upper}}{{name.__class__.__mro__}}{{words.append}}{{ages.items}}{{ages.keys}}", ""),
    ("{{user.hasOwnProperty}}{{#with user}}{{valueOf}}{{/with}}{{@root.constructor}}", ""),
    ("{{lookup words '-1'}}{{words.[-1]}}{{words.[00]}}{{words.[1e0]}}{{words.[²]}}", ""),
]

AREAS: dict[str, list[tuple[str, str]]] = {
    "basic": BASIC,
    "blocks": BLOCKS,
    "data": DATA,
    "helpers": HELPERS,
    "whitespace": WHITESPACE,
    "security": SECURITY,
}
