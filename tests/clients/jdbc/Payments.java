// pgjdbc, unmodified: java -cp postgresql.jar Payments.java. TAP lines; exits 1 if a test fails.

import java.nio.charset.StandardCharsets;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import org.postgresql.PGStatement;
import org.postgresql.util.PGobject;
import org.postgresql.util.PSQLException;

public class Payments {
    static final String VISA = "4111111111111111", VISA_MASK = "411111******1111";
    static final String MASTER = "5555555555554444", MASTER_MASK = "555555******4444";
    static final String AMEX = "378282246310005", AMEX_MASK = "378282*****0005";

    interface Body { void run() throws Exception; }

    static int number, failures;
    static String panOid;
    static Connection till, desk;

    public static void main(String[] args) throws Exception {
        try (Connection c = connect("till", new String[0]);
             ResultSet r = c.createStatement().executeQuery("SELECT 'pci.pan'::regtype::oid")) {
            r.next();
            panOid = r.getString(1);
        }
        suite("text, simple protocol", "preferQueryMode=simple");
        suite("text, extended protocol", "binaryTransfer=false", "prepareThreshold=5");
        suite("text, untyped strings", "binaryTransfer=false", "stringtype=unspecified", "prepareThreshold=1");
        suite("binary", "binaryTransfer=true", "prepareThreshold=1");
        suite("binary from the first execution", "binaryTransfer=true", "prepareThreshold=-1");
        suite("binary, untyped strings", "binaryTransfer=true", "stringtype=unspecified", "prepareThreshold=1");
        binaryPan();
        System.out.println("1.." + number);
        System.out.println("# " + (number - failures) + " passed, " + failures + " failed");
        System.exit(failures == 0 ? 0 : 1);
    }

    static void suite(String name, String... options) throws Exception {
        boolean simple = options[0].equals("preferQueryMode=simple");
        try (Connection t = connect("till", options); Connection d = connect("desk", options)) {
            till = t;
            desk = d;
            test(name, "insert and select give the mask", Payments::insertAndSelect);
            test(name, "pci.pan as PGobject", Payments::pgObject);
            test(name, "batch insert", Payments::batch);
            test(name, "look-up by full PAN", Payments::lookUp);
            test(name, "IN and = ANY", Payments::inAndAny);
            test(name, "upsert", Payments::upsert);
            test(name, "update of another column keeps the card", Payments::updateOther);
            test(name, "updatable result set without the card", Payments::updatable);
            test(name, "refused reveal", Payments::refused);
            test(name, "granted reveal", Payments::granted);
            test(name, "bad input does not come back", Payments::badInput);
            if (!simple) {
                test(name, "a prepared statement goes generic", Payments::generic);
            }
        }
    }

    /** The driver makes no strings of binary values whose type it does not know: it hands out the bytes. */
    static void binaryPan() throws Exception {
        String[] options = {"binaryTransfer=true", "binaryTransferEnable=" + panOid, "prepareThreshold=-1"};
        try (Connection t = connect("till", options); Connection d = connect("desk", options)) {
            till = t;
            desk = d;
            test("binary results of pci.pan", "bytes of the mask", () -> {
                insert(VISA);
                try (PreparedStatement s = till.prepareStatement("SELECT card FROM payments_jdbc WHERE card = ?")) {
                    s.setString(1, VISA);
                    ResultSet r = s.executeQuery();
                    holds(r.next(), "no row");
                    same(List.of(new String(r.getBytes(1), StandardCharsets.US_ASCII)), VISA_MASK);
                }
            });
        }
    }

    static void insertAndSelect() throws Exception {
        insert(VISA, "5555-5555-5555-4444");
        same(rows(till, "SELECT card FROM payments_jdbc ORDER BY id"), VISA_MASK, MASTER_MASK);
        same(rows(till, "SELECT card::text FROM payments_jdbc ORDER BY id"), VISA_MASK, MASTER_MASK);
    }

    static void pgObject() throws Exception {
        PGobject pan = new PGobject();
        pan.setType("pci.pan");
        pan.setValue(VISA);
        try (PreparedStatement s = till.prepareStatement("INSERT INTO payments_jdbc VALUES (1, ?, 1)")) {
            s.setObject(1, pan);
            s.executeUpdate();
        }
        same(rows(till, "SELECT card FROM payments_jdbc"), VISA_MASK);
        same(rows(desk, "SELECT pci.reveal(card) FROM payments_jdbc"), VISA);
    }

    static void batch() throws Exception {
        try (PreparedStatement s = till.prepareStatement("INSERT INTO payments_jdbc (card, amount) VALUES (?, ?)")) {
            int amount = 0;
            for (String pan : new String[] {VISA, MASTER, AMEX}) {
                s.setString(1, pan);
                s.setInt(2, ++amount);
                s.addBatch();
            }
            s.executeBatch();
        }
        same(rows(till, "SELECT card FROM payments_jdbc ORDER BY amount"), VISA_MASK, MASTER_MASK, AMEX_MASK);
    }

    static void lookUp() throws Exception {
        insert(VISA, MASTER);
        for (String parameter : new String[] {"?", "?::text", "CAST(? AS varchar)", "?::pci.pan"}) {
            String query = "SELECT id FROM payments_jdbc WHERE card = " + parameter;
            same(rows(till, query, MASTER), "2");
            same(rows(till, query, "4111 1111 1111 1111"), "1");
            same(rows(till, query, AMEX));
        }
    }

    static void inAndAny() throws Exception {
        insert(VISA, MASTER, AMEX);
        same(rows(till, "SELECT id FROM payments_jdbc WHERE card IN (?, ?) ORDER BY id", VISA, AMEX), "1", "3");
        for (String type : new String[] {"text", "varchar"}) {
            Array pans = till.createArrayOf(type, new String[] {MASTER, AMEX});
            same(rows(till, "SELECT id FROM payments_jdbc WHERE card = ANY (?) ORDER BY id", pans), "2", "3");
        }
    }

    static void upsert() throws Exception {
        String upsert = "INSERT INTO payments_jdbc (card, amount) VALUES (?, ?) ON CONFLICT (card) DO UPDATE "
            + "SET amount = payments_jdbc.amount + excluded.amount RETURNING card || ' ' || amount";
        same(rows(till, upsert, VISA, 5), VISA_MASK + " 5");
        same(rows(till, upsert, VISA, 6), VISA_MASK + " 11");
        same(rows(till, "SELECT count(*) FROM payments_jdbc"), "1");
    }

    static void updateOther() throws Exception {
        insert(VISA);
        try (PreparedStatement s = till.prepareStatement("UPDATE payments_jdbc SET amount = ? WHERE id = ?")) {
            s.setInt(1, 99);
            s.setLong(2, 1);
            same(List.of("" + s.executeUpdate()), "1");
        }
        same(rows(desk, "SELECT pci.reveal(card) || ' ' || amount FROM payments_jdbc"), VISA + " 99");
    }

    /** The driver finds the row again by the columns of all its unique keys, as it read them: leave the card out. */
    static void updatable() throws Exception {
        insert(VISA);
        SQLException e = fails(() -> updateAmount("SELECT id, card, amount FROM payments_jdbc"));
        same(List.of(e.getSQLState()), "22P02");
        updateAmount("SELECT id, amount FROM payments_jdbc");
        same(rows(desk, "SELECT pci.reveal(card) || ' ' || amount FROM payments_jdbc"), VISA + " 55");
    }

    static void updateAmount(String query) throws SQLException {
        try (PreparedStatement s = till.prepareStatement(query,
                 ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
             ResultSet r = s.executeQuery()) {
            r.next();
            r.updateInt("amount", 55);
            r.updateRow();
        }
    }

    static void refused() throws Exception {
        insert(VISA);
        SQLException e = fails(() -> rows(till, "SELECT pci.reveal(card) FROM payments_jdbc"));
        same(List.of(e.getClass().getName(), e.getSQLState()), "org.postgresql.util.PSQLException", "42501");
        holds(e.getMessage().contains("permission denied to reveal card numbers"), e.getMessage());
        holds(((PSQLException) e).getServerErrorMessage().getHint().contains("pci.grant_access"), "hint");
        holds(!e.getMessage().contains(VISA), e.getMessage());
        same(rows(till, "SELECT card FROM payments_jdbc"), VISA_MASK);
    }

    static void granted() throws Exception {
        insert(VISA, MASTER, AMEX);
        same(rows(desk, "SELECT pci.reveal(card) FROM payments_jdbc ORDER BY id"), VISA, MASTER, AMEX);
        same(rows(desk, "SELECT card FROM payments_jdbc ORDER BY id"), VISA_MASK, MASTER_MASK, AMEX_MASK);
    }

    static void badInput() throws Exception {
        for (String bad : new String[] {"4111111111111112", VISA_MASK, "41111111111"}) {
            SQLException e = fails(() -> insert(bad));
            same(List.of(e.getSQLState()), "22P02");
            String said = "" + ((PSQLException) e).getServerErrorMessage();
            holds(!said.contains(bad), said);
        }
        same(rows(till, "SELECT count(*) FROM payments_jdbc"), "0");
        insert(VISA);
        SQLException e = fails(() -> insert(VISA));
        same(List.of(e.getSQLState()), "23505");
    }

    static void generic() throws Exception {
        insert(VISA, MASTER);
        String query = "SELECT id FROM payments_jdbc WHERE card = ?";
        try (PreparedStatement s = till.prepareStatement(query)) {
            for (int i = 0; i < 20; i++) {
                s.setString(1, i % 2 == 0 ? VISA : MASTER);
                same(read(s.executeQuery()), i % 2 == 0 ? "1" : "2");
            }
            holds(s.unwrap(PGStatement.class).isUseServerPrepare(), "not prepared on the server");
            List<String> plans = rows(till, "SELECT max(generic_plans) FROM pg_prepared_statements"
                + " WHERE statement = 'SELECT id FROM payments_jdbc WHERE card = $1'");
            holds(plans.get(0) != null && Integer.parseInt(plans.get(0)) > 0, "generic plans: " + plans);
        }
        try (PreparedStatement s = desk.prepareStatement("SELECT pci.reveal(card) FROM payments_jdbc WHERE id = ?")) {
            for (int i = 0; i < 20; i++) {
                s.setLong(1, 1);
                same(read(s.executeQuery()), VISA);
            }
        }
    }

    static void insert(String... pans) throws SQLException {
        try (PreparedStatement s = till.prepareStatement("INSERT INTO payments_jdbc VALUES (?, ?, ?)")) {
            for (int i = 0; i < pans.length; i++) {
                s.setLong(1, i + 1);
                s.setString(2, pans[i]);
                s.setInt(3, 10);
                s.executeUpdate();
            }
        }
    }

    static List<String> rows(Connection c, String query, Object... values) throws SQLException {
        try (PreparedStatement s = c.prepareStatement(query)) {
            for (int i = 0; i < values.length; i++) {
                s.setObject(i + 1, values[i]);
            }
            return read(s.executeQuery());
        }
    }

    static List<String> read(ResultSet r) throws SQLException {
        List<String> found = new ArrayList<>();
        while (r.next()) {
            found.add(r.getString(1));
        }
        return found;
    }

    static SQLException fails(Body body) throws Exception {
        try {
            body.run();
        } catch (SQLException e) {
            return e;
        }
        throw new AssertionError("nothing was refused");
    }

    static void same(List<String> found, String... expected) {
        holds(found.equals(List.of(expected)), "expected " + List.of(expected) + ", found " + found);
    }

    static void holds(boolean condition, String otherwise) {
        if (!condition) {
            throw new AssertionError(otherwise);
        }
    }

    static void test(String suite, String name, Body body) throws Exception {
        number++;
        till.createStatement().execute("TRUNCATE payments_jdbc");
        try {
            body.run();
            System.out.println("ok " + number + " - " + suite + ": " + name);
        } catch (Exception | AssertionError e) {
            failures++;
            System.out.println("not ok " + number + " - " + suite + ": " + name);
            System.out.println("# " + String.valueOf(e).replace("\n", "\n# "));
        }
    }

    static Connection connect(String user, String[] options) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", user);
        for (String option : options) {
            String[] parts = option.split("=", 2);
            properties.setProperty(parts[0], parts[1]);
        }
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":"
            + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), properties);
    }
}
