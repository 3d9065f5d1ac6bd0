#include "common/attr.h"
#include "server/store/hosts.h"
#include "tests/support/test.h"

static void items_are_counted_and_found_in_each_list(void)
{
    AUTO(hosts_done) struct hosts hosts = {0};
    char item[16];
    CHECK_INT(hosts_count(&hosts), 1);
    hosts_keep(&hosts, "host", "a,b.example,c");
    hosts_keep(&hosts, "port", "5432");
    hosts_keep(&hosts, "password", "x,y,z,w");
    CHECK_INT(hosts_count(&hosts), 3);
    CHECK_TEXT(hosts_item(hosts.host, 0, item, sizeof item), "a");
    CHECK_TEXT(hosts_item(hosts.host, 1, item, sizeof item), "b.example");
    CHECK_TEXT(hosts_item(hosts.host, 2, item, sizeof item), "c");
    CHECK_TEXT(hosts_item(hosts.port, 2, item, sizeof item), "5432");
    CHECK(hosts_item(hosts.hostaddr, 0, item, sizeof item) == NULL);
}

static void item_longer_than_the_buffer_is_cut(void)
{
    char item[4];
    CHECK_TEXT(hosts_item("abcdef,g", 0, item, sizeof item), "abc");
}

static void later_value_replaces_the_earlier_one(void)
{
    AUTO(hosts_done) struct hosts hosts = {0};
    hosts_keep(&hosts, "host", "a,b");
    hosts_keep(&hosts, "host", "c");
    CHECK_TEXT(hosts.host, "c");
    hosts_keep(&hosts, "host", "");
    CHECK(hosts.host == NULL);
}

static bool unambiguous(const char *conninfo, const char *port)
{
    AUTO(hosts_done) struct hosts hosts = {0};
    hosts_keep(&hosts, "port", port);
    return hosts_unambiguous(&hosts, conninfo);
}

static void password_that_could_be_taken_for_a_host_or_port_is_ambiguous(void)
{
    CHECK(unambiguous("postgresql://u:p@h/d", NULL));
    CHECK(unambiguous("postgresql://u:p@h,i/d", "1,2"));
    CHECK(unambiguous("postgres://u:p@h/d?user=a@b", NULL));
    CHECK(unambiguous("postgresql:///d", NULL));
    CHECK(!unambiguous("postgresql://u:p@q@h/d", NULL));
    CHECK(!unambiguous("postgres://u:p/q@h/d", "p"));
    CHECK(unambiguous("host=h password=p@q@r", NULL));
}

TEST_MAIN(TEST(items_are_counted_and_found_in_each_list), TEST(item_longer_than_the_buffer_is_cut),
          TEST(later_value_replaces_the_earlier_one),
          TEST(password_that_could_be_taken_for_a_host_or_port_is_ambiguous))
