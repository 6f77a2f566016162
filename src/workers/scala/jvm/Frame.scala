package nb

import java.io.{IOException, RandomAccessFile}
import java.nio.file.attribute.BasicFileAttributes
import java.nio.file.{Files, Path, Paths}
import java.util.concurrent.atomic.AtomicLong
import scala.jdk.CollectionConverters._
import scala.util.{Try, Using}

/** A table that Python or a database has handed over: `df("name")` is a column, `df.rows` are its rows. What is missing is null.
  *
  * Nothing is copied: values are read where the table lies in memory, which stays as long as the frame does.
  */
final class Frame private (
    val names: IndexedSeq[String],
    val kinds: IndexedSeq[String],
    columns: IndexedSeq[IndexedSeq[Any]],
    val size: Int,
    file: Frame.Open
) {
  private lazy val places = names.zipWithIndex.toMap

  /** The column of this name. */
  def apply(name: String): IndexedSeq[Any] = columns(place(name))

  /** The column of this name, whose values are of this type: `df.as[Long]("id").sum`. */
  def as[T](name: String): IndexedSeq[T] = apply(name).asInstanceOf[IndexedSeq[T]]

  /** Its rows. */
  def rows: IndexedSeq[Frame.Row] = new arrow.Seen(size, new Frame.Row(this, _))

  private[nb] def value(name: String, row: Int): Any = columns(place(name))(row)

  private def place(name: String): Int =
    places.getOrElse(name, throw new NoSuchElementException(s"there is no column $name; there is ${names.mkString(", ")}"))

  /** Where another process of this user reads it, as long as it is there. */
  private[nb] def path: String = file.path

  override def toString: String = {
    val shown = names.zip(kinds).map { case (name, kind) => s"$name: $kind" }
    s"$size rows of ${shown.mkString(", ")}"
  }
}

object Frame {

  /** One row of a frame. */
  final class Row private[Frame] (frame: Frame, at: Int) {
    def apply(name: String): Any = frame.value(name, at)
    def as[T](name: String): T = apply(name).asInstanceOf[T]
    override def toString: String = frame.names.map(name => s"$name = ${apply(name)}").mkString("Row(", ", ", ")")
  }

  /** The table in this file of Arrow's IPC format. What is mapped of it stays when the file goes. */
  def read(path: String): Frame = {
    val file = new RandomAccessFile(path, "r")
    try {
      val (columns, size) = new arrow.Reader(file.getChannel).table()
      // An index of pandas that has no name.
      val shown = columns.filterNot(_.name.startsWith("__index_level_"))
      new Frame(shown.map(_.name), shown.map(_.kind), shown.map(_.values), size, new Open(file, key(Paths.get(path))))
    } catch { case failed: Throwable => file.close(); throw failed }
  }

  /** Prints where another process of this user reads those of these that are frames of cells, which they stay until more code runs. */
  def lend(names: String*): Unit = {
    val lent = worker.Worker.lend(names).map { case (name, frame) => ujson.Obj("name" -> name, "path" -> frame.path) }
    println("\n" + ujson.write(ujson.Arr.from(lent), escapeUnicode = true))
  }

  /** A file that may have no name any more. It is closed when nobody has its frame. */
  private final class Open(file: RandomAccessFile, key: AnyRef) {

    /** Its descriptor has a number that Java does not tell: it is the one of this file at a place where no other one is. */
    def path: String = synchronized {
      val place = Open.places.incrementAndGet()
      file.seek(place)
      val own = Using.resource(Files.list(Paths.get("/proc/self/fd"))) { all =>
        all.iterator.asScala.find(fd => Try(Frame.key(fd)).toOption.contains(key) && Open.isAt(fd.getFileName.toString, place))
      }
      val number = own.getOrElse(throw new IOException("the file of a frame is not open any more")).getFileName
      s"/proc/${ProcessHandle.current.pid}/fd/$number"
    }
  }

  private object Open {
    private val places = new AtomicLong

    private def isAt(number: String, place: Long): Boolean =
      Try(Files.readString(Paths.get("/proc/self/fdinfo", number))).toOption.exists { about =>
        about.linesIterator.map(_.split("\\s+")).exists(line => line(0) == "pos:" && line(1).toLong == place)
      }
  }

  /** What makes a file the same as another one. */
  private def key(path: Path): AnyRef = Files.readAttributes(path, classOf[BasicFileAttributes]).fileKey
}
